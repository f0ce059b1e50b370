//! Decoding as a stream, one id at a time.

use crate::tokenizer::Tokenizer;

/// Turns ids into text as they come. A token may end in the middle of a character: its bytes wait
/// until the rest arrives, so that every piece returned is whole, and all pieces together are what
/// [`Tokenizer::decode`] gives.
pub struct DecodeStream {
    tokenizer: Tokenizer,
    skip_special: bool,
    /// Bytes of a character that is not complete.
    waiting: Vec<u8>,
    /// For tokenizers whose decoder looks at neighbours: the ids that still matter as context, how
    /// many of them have been given out, and their text.
    ids: Vec<u32>,
    given: usize,
    given_text: String,
}

impl DecodeStream {
    pub(crate) fn new(tokenizer: Tokenizer) -> Self {
        Self {
            tokenizer,
            skip_special: true,
            waiting: Vec::new(),
            ids: Vec::new(),
            given: 0,
            given_text: String::new(),
        }
    }

    /// Spells special tokens out instead of skipping them.
    #[must_use]
    pub fn with_special(mut self) -> Self {
        self.skip_special = false;
        self
    }

    /// Takes the next id and returns the text that it completes, if any. An id without a token
    /// stands for nothing.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if self.skip_special && self.tokenizer.is_special(id) {
            return None;
        }
        let bytes = self.tokenizer.token_bytes(id)?;
        if self.tokenizer.is_bytewise() {
            self.waiting.extend_from_slice(bytes);
            let text = take_whole(&mut self.waiting);
            return Some(text).filter(|text| !text.is_empty());
        }
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids, self.skip_special).ok()?;
        // A replacement character at the end may be a character that is still coming.
        let fresh = text.strip_prefix(self.given_text.as_str()).filter(|new| !new.is_empty())?;
        if fresh.ends_with('\u{FFFD}') {
            return None;
        }
        let fresh = fresh.to_string();
        // What was given out before is no longer needed; what was given now is the next context.
        self.ids.drain(..self.given);
        self.given = self.ids.len();
        self.given_text = self.tokenizer.decode(&self.ids, self.skip_special).ok()?;
        Some(fresh)
    }

    /// Ends the stream: what was waiting for the rest of a character comes out with U+FFFD.
    pub fn finish(&mut self) -> Option<String> {
        if self.tokenizer.is_bytewise() {
            let rest = std::mem::take(&mut self.waiting);
            return Some(String::from_utf8_lossy(&rest).into_owned()).filter(|text| !text.is_empty());
        }
        let text = self.tokenizer.decode(&self.ids, self.skip_special).ok()?;
        let fresh = text.strip_prefix(self.given_text.as_str()).map(str::to_string);
        self.ids.clear();
        self.given = 0;
        self.given_text.clear();
        fresh.filter(|text| !text.is_empty())
    }
}

/// Takes all that is decided off the front of `bytes`: whole characters, and U+FFFD for what can
/// no longer become one. The beginning of a character at the end stays.
fn take_whole(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut at = 0;
    loop {
        match std::str::from_utf8(&bytes[at..]) {
            Ok(rest) => {
                text.push_str(rest);
                at = bytes.len();
                break;
            }
            Err(error) => {
                let valid = at + error.valid_up_to();
                text.push_str(std::str::from_utf8(&bytes[at..valid]).unwrap_or_default());
                at = valid;
                let Some(broken) = error.error_len() else { break };
                text.push('\u{FFFD}');
                at += broken;
            }
        }
    }
    bytes.drain(..at);
    text
}
