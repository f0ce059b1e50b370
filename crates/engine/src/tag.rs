//! Words to tags, by a model with a head over tokens.

use crate::classify::run_framed;
use crate::error::{EngineError, Result};
use crate::framing::{Framed, Framing};
use hearth_model::{Task, TaskFolder, TaskRunner};
use hearth_tokenizer::Tokenizer;
use std::ops::ControlFlow;
use std::path::Path;

/// A stretch of words as the model sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FramedWords {
    /// Token ids and types.
    pub input: Framed,
    /// For each word the row of its first token, which carries its tag (Devlin et al. 2019, section 5.3).
    pub rows: Vec<usize>,
}

/// A model that tags, with its tokenizer.
#[derive(Debug)]
pub struct Tagger {
    runner: TaskRunner,
    tokenizer: Tokenizer,
    framing: Framing,
    labels: Vec<String>,
    max_tokens: usize,
}

impl Tagger {
    /// Opens the folder of a model with a head over tokens.
    ///
    /// # Errors
    /// If a file is missing or isn't what it should be, or the head is another one.
    pub fn open(dir: &Path) -> Result<Self> {
        let TaskFolder { model, weights, labels, .. } = TaskFolder::open(dir)?;
        if !matches!(model.task(), Task::Tokens(_)) {
            let problem = "its head doesn't answer about each token\nhint: hearth classify runs one that answers \
                           about whole texts";
            return Err(EngineError::BadFile { path: dir.join("config.json"), problem: problem.to_owned() });
        }
        let tokenizer = Tokenizer::from_folder(dir)?;
        let runner = TaskRunner::new(&model, &weights)?;
        let positions = runner.limits().1;
        let max_tokens = tokenizer.model_max_length().unwrap_or(positions).min(positions);
        let framing = Framing::of(&tokenizer);
        Ok(Tagger { runner, tokenizer, framing, labels, max_tokens })
    }

    /// All tags that the model knows.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The tag of each word of each sentence, as places among [`labels`](Self::labels). A sentence's tags don't
    /// depend on the others. `go_on` hears how many stretches of words are done.
    ///
    /// # Errors
    /// If a word can't be encoded, or the caller breaks off.
    pub fn tag(
        &mut self,
        sentences: &[&[String]],
        go_on: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<usize>>> {
        let pieces = frame_words(&self.tokenizer, &self.framing, sentences, self.max_tokens)?;
        let pieces: Vec<&[FramedWords]> = pieces.iter().map(Vec::as_slice).collect();
        tag_pieces(&mut self.runner, &pieces, go_on)
    }
}

/// Encodes each word by itself and puts around each sentence what the model wants. A sentence longer than `limit`
/// tokens becomes several stretches of whole words, each framed by itself; a single word that is longer loses its end.
///
/// # Errors
/// If a word can't be encoded.
pub fn frame_words(
    tokenizer: &Tokenizer,
    framing: &Framing,
    sentences: &[&[String]],
    limit: usize,
) -> Result<Vec<Vec<FramedWords>>> {
    let words: Vec<&str> = sentences.iter().flat_map(|s| s.iter().map(String::as_str)).collect();
    let mut encoded = tokenizer.encode_batch(&words)?.into_iter();
    let room = limit.saturating_sub(framing.before.len() + framing.after.len()).max(1);
    let unknown = tokenizer.unk().or(tokenizer.id_of("[UNK]"));
    let mut framed = Vec::with_capacity(sentences.len());
    for sentence in sentences {
        let (mut pieces, mut ids, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for mut tokens in encoded.by_ref().take(sentence.len()) {
            if tokens.is_empty() {
                // A word of nothing but what the tokenizer drops still needs a row for its tag.
                tokens.extend(unknown);
            }
            tokens.truncate(room);
            if !rows.is_empty() && ids.len() + tokens.len() > room {
                pieces.push(piece(framing, &ids, std::mem::take(&mut rows)));
                ids.clear();
            }
            rows.push(framing.before.len() + ids.len());
            ids.extend(tokens);
        }
        if !rows.is_empty() {
            pieces.push(piece(framing, &ids, rows));
        }
        framed.push(pieces);
    }
    Ok(framed)
}

fn piece(framing: &Framing, ids: &[u32], rows: Vec<usize>) -> FramedWords {
    let around = framing.before.len() + framing.after.len();
    FramedWords { input: framing.single(ids, ids.len() + around), rows }
}

/// The likeliest tag of each word of each sentence.
///
/// # Errors
/// If an input doesn't fit the model, or the caller breaks off.
pub fn tag_pieces(
    runner: &mut TaskRunner,
    sentences: &[&[FramedWords]],
    go_on: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Vec<usize>>> {
    let inputs: Vec<&Framed> = sentences.iter().copied().flatten().map(|piece| &piece.input).collect();
    let outputs = runner.task().outputs();
    let mut numbers = run_framed(runner, &inputs, go_on)?.into_iter();
    let tags_of = |piece: &FramedWords, logits: Vec<f32>| -> Vec<usize> {
        piece.rows.iter().map(|row| highest(&logits[row * outputs..][..outputs])).collect()
    };
    let tags = sentences.iter().map(|pieces| {
        pieces.iter().flat_map(|piece| tags_of(piece, numbers.next().unwrap_or_default())).collect()
    });
    Ok(tags.collect())
}

/// The place of the highest number, the first if there are several.
pub fn highest(numbers: &[f32]) -> usize {
    let best = numbers.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.map_or(0, |(place, _)| place)
}
