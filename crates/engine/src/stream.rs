//! From token ids to text as they come: whole characters only, and nothing of a stop string.

use hearth_tokenizer::{DecodeStream, Tokenizer};

/// A character has at most four bytes, so at most so many tokens of a prompt can matter to the first
/// character after it.
const PRIMING_TOKENS: usize = 4;

/// Decodes one sequence's continuation, watching for stop strings.
pub(crate) struct TextStream {
    decoder: DecodeStream,
    stops: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
}

/// What a token completed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Text that can be given out.
    pub(crate) text: String,
    /// A stop string came; what follows it is dropped.
    pub(crate) stopped: bool,
}

impl TextStream {
    /// Starts after `prompt`, whose end decides about the first character: a tokenizer may swallow a
    /// space that begins a text, and a prompt given as tokens may end within a character.
    pub(crate) fn new(tokenizer: &Tokenizer, prompt: &[u32], stops: &[String]) -> Self {
        let mut decoder = tokenizer.decode_stream();
        for &id in &prompt[prompt.len().saturating_sub(PRIMING_TOKENS)..] {
            decoder.push(id);
        }
        TextStream { decoder, stops: stops.to_vec(), held: String::new() }
    }

    /// Takes the next token.
    pub(crate) fn push(&mut self, id: u32) -> Piece {
        match self.decoder.push(id) {
            Some(text) => self.take(&text),
            None => Piece::default(),
        }
    }

    /// Ends the stream and gives out all that was held back, up to a stop string.
    pub(crate) fn finish(&mut self) -> String {
        let rest = self.decoder.finish().unwrap_or_default();
        let Piece { mut text, stopped } = self.take(&rest);
        if !stopped {
            text.push_str(&std::mem::take(&mut self.held));
        }
        text
    }

    fn take(&mut self, text: &str) -> Piece {
        self.held.push_str(text);
        // No stop string begins before `held`: what was given out couldn't be part of one.
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return Piece { text: std::mem::take(&mut self.held), stopped: true };
        }
        let keep = self.stops.iter().map(|stop| longest_overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Piece { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }
}

/// Length of the longest end of `text` that is a beginning of `stop`, but not all of it.
fn longest_overlap(text: &str, stop: &str) -> usize {
    let lengths = stop.char_indices().map(|(at, _)| at).rev();
    lengths.into_iter().find(|&len| text.as_bytes().ends_with(&stop.as_bytes()[..len])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_the_longest_proper_beginnings() {
        for (text, stop, expect) in [
            ("abc", "cd", 1),
            ("abab", "ababc", 4),
            ("abab", "abc", 2),
            ("xyz", "abc", 0),
            ("", "abc", 0),
            ("春眠", "眠不", 3),
            ("aa", "aaa", 2),
        ] {
            assert_eq!(longest_overlap(text, stop), expect, "{text:?} {stop:?}");
        }
    }
}
