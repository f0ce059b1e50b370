//! Which bytes of a text each of its tokens stands for.
//!
//! Tokens that are bytes of the text lie side by side in it. For WordPiece the pipeline gives ids alone, so its steps are taken one by one here, as in [`crate::cut`], and each step keeps
//! account of where it is: added tokens are taken out, the rest is normalised with its origins, cut into words, and
//! the pieces of a word lie side by side in it.

use std::ops::Range;

use tokenizers::Error;
use tokenizers::pipeline::{
    Model as _, PipelinePatternMatcher, PipelineToken, PipelineTokenizer, PreTokenizer as _,
    PreTokenizerScratch, normalize_all,
};

use crate::vocab::Vocab;

/// A token, and the bytes that it stands for.
pub(crate) type Placed = (u32, Range<usize>);

/// Where the tokens `ids` of `text` lie, if they are its bytes, one after another. A token's range reaches to the borders of
/// characters, and leaves out the spaces at its ends, as `trim_offsets` of Hugging Face's `tokenizers` does.
pub(crate) fn of_bytes(vocab: &Vocab, ids: Vec<u32>, text: &str) -> Result<Vec<Placed>, Error> {
    let mut at = 0;
    let placed = ids.into_iter().map(|id| {
        let bytes = vocab.bytes_of(id).unwrap_or_default();
        if !text.as_bytes()[at..].starts_with(bytes) {
            return Err(differs(at));
        }
        let start = text.floor_char_boundary(at);
        at += bytes.len();
        Ok((id, without_spaces(text, start..text.ceil_char_boundary(at))))
    });
    let placed = placed.collect::<Result<Vec<_>, Error>>()?;
    if at < text.len() {
        return Err(differs(at));
    }
    Ok(placed)
}

/// Where the tokens `ids` of `text` lie, one for each of its characters.
pub(crate) fn of_characters(ids: Vec<u32>, text: &str) -> Vec<Placed> {
    let ranges = text.char_indices().map(|(at, character)| at..at + character.len_utf8());
    ids.into_iter().zip(ranges).collect()
}

fn differs(at: usize) -> Error {
    format!("its tokens aren't the bytes of the text from byte {at} on, and can't be traced back").into()
}

/// A range without the spaces at its ends; of nothing but spaces, the end.
fn without_spaces(text: &str, range: Range<usize>) -> Range<usize> {
    let start = range.end - text[range.clone()].trim_start_matches(' ').len();
    start..start + text[start..range.end].trim_end_matches(' ').len()
}

/// The tokens of `text` for a WordPiece vocabulary, special tokens in it left as text.
pub(crate) fn encode(pipeline: &PipelineTokenizer, vocab: &Vocab, text: &str) -> Result<Vec<Placed>, Error> {
    let added = pipeline.get_added_vocabulary();
    let mut placed = Vec::with_capacity(text.len() / 4);
    for (range, token) in segments(added, text, false) {
        if let Some(id) = token {
            placed.push((id, range));
            continue;
        }
        let Normalised { text: normalised, origins } = Normalised::of(pipeline, text, range)?;
        for (range, token) in segments(added, &normalised, true) {
            let from = placed.len();
            match token {
                Some(id) => placed.push((id, range)),
                None => words(pipeline, vocab, &normalised, range, &mut placed)?,
            }
            for (_, bytes) in &mut placed[from..] {
                *bytes = origins[bytes.start].start..origins[bytes.end - 1].end;
            }
        }
    }
    Ok(placed)
}

/// The stretches of a text, those that are an added token with its id.
fn segments(
    added: &impl PipelinePatternMatcher,
    text: &str,
    normalised: bool,
) -> Vec<(Range<usize>, Option<u32>)> {
    let (mut stretches, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let found = added.extract_next(text.as_bytes(), at, normalised, true);
        let plain = at..found.map_or(text.len(), |((start, _), _)| start);
        at = plain.end;
        if !plain.is_empty() {
            stretches.push((plain, None));
        }
        if let Some(((start, end), id)) = found {
            stretches.push((start..end, Some(id)));
            at = end;
        }
    }
    stretches
}

/// A stretch of a text after the tokenizer's normalisers.
struct Normalised {
    text: String,
    /// For each of its bytes, the bytes of the original that it came from.
    origins: Vec<Range<usize>>,
}

impl Normalised {
    /// Normalises character by character. Where a word comes out differently as a whole (composition, a capital
    /// sigma), each of its characters comes from the whole word.
    fn of(pipeline: &PipelineTokenizer, original: &str, range: Range<usize>) -> Result<Self, Error> {
        let normalise = |text: &str| -> Result<String, Error> {
            Ok(normalize_all(pipeline.get_normalizers(), text, range.start)?.into_owned())
        };
        let mut out = Normalised { text: String::new(), origins: Vec::new() };
        let mut at = range.start;
        for word in original[range.clone()].split_inclusive(char::is_whitespace) {
            let from = out.text.len();
            for (place, character) in word.char_indices() {
                let start = at + place;
                out.push(
                    &normalise(character.encode_utf8(&mut [0; 4]))?,
                    start..start + character.len_utf8(),
                );
            }
            let whole = normalise(word)?;
            if out.text[from..] != whole {
                out.text.truncate(from);
                out.origins.truncate(from);
                out.push(&whole, at..at + word.len());
            }
            at += word.len();
        }
        if out.text != normalise(&original[range.clone()])? {
            return Err("its normaliser joins words, so tokens can't be traced back to the text".into());
        }
        Ok(out)
    }

    fn push(&mut self, text: &str, origin: Range<usize>) {
        self.text.push_str(text);
        self.origins.resize(self.text.len(), origin);
    }
}

/// Appends the tokens of a stretch, with their bytes in `text`.
fn words(
    pipeline: &PipelineTokenizer,
    vocab: &Vocab,
    text: &str,
    range: Range<usize>,
    placed: &mut Vec<Placed>,
) -> Result<(), Error> {
    let stretch = &text[range.clone()];
    let (mut cuts, mut scratch) = (Vec::new(), PreTokenizerScratch::default());
    pipeline.get_pre_tokenizer().pre_tokenize(stretch, &mut scratch, &mut cuts)?;
    let model = pipeline.get_model();
    let (mut model_scratch, mut tokens) = (model.init_scratch(), Vec::new());
    for cut in cuts {
        tokens.clear();
        model.tokenize_spans(stretch, &[cut], &mut model_scratch, &mut tokens)?;
        let word = range.start + cut.start as usize..range.start + cut.end as usize;
        place(vocab, &tokens, word, placed)?;
    }
    Ok(())
}

/// Lays the pieces of a word side by side. One that is alone is the whole word, even if it stands for the unknown.
fn place(
    vocab: &Vocab,
    tokens: &[PipelineToken],
    word: Range<usize>,
    placed: &mut Vec<Placed>,
) -> Result<(), Error> {
    if let [token] = tokens {
        placed.push((token.id(), word));
        return Ok(());
    }
    let mut start = word.start;
    for (piece, token) in tokens.iter().enumerate() {
        let spelling = match piece {
            0 => vocab.token_of(token.id()).map(str::as_bytes),
            _ => vocab.bytes_of(token.id()),
        };
        let end = start + spelling.map_or(0, <[u8]>::len);
        placed.push((token.id(), start..end));
        start = end;
    }
    if start != word.end {
        let (got, expected) = (start - word.start, word.len());
        return Err(format!("the pieces of a word have {got} bytes, the word {expected}").into());
    }
    Ok(())
}
