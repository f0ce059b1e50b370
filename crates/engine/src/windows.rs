//! A question and a passage that may be longer than the model takes: windows of the passage, each behind the question.

use crate::error::{EngineError, Result};
use crate::framing::{Framed, Framing};
use hearth_tokenizer::Tokenizer;
use std::ops::Range;
use std::sync::Arc;

/// A question, and the passage that may hold its answer.
pub type Asked<'a> = (&'a str, &'a str);

/// A part of a passage behind its question, as the model sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Token ids and types. Row 0 is what stands in front of a text (`[CLS]`).
    pub input: Framed,
    /// The row of its first token of the passage.
    pub first_row: usize,
    /// Which tokens of the passage it holds.
    pub tokens: Range<usize>,
}

/// A question on a passage, in windows that cover all of the passage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramedQuestion {
    /// At least one; each overlaps the one before.
    pub windows: Vec<Window>,
    /// For each token of the passage, the bytes of the passage that it stands for.
    pub offsets: Arc<[Range<usize>]>,
    /// Tokens of the question that had to be left out.
    pub cut: usize,
}

/// `[CLS] question [SEP] part of the passage [SEP]`, at most `limit` tokens, for as many parts as it takes (as
/// `transformers` does with `only_second` and `return_overflowing_tokens`). A part repeats the last `stride` tokens of
/// the one before it, or half of its own where that is less. Of a question, at most half of a window is kept.
///
/// # Errors
/// If a text can't be encoded or its tokens can't be traced back, or the tokenizer puts nothing in front of a text.
pub fn frame_questions(
    tokenizer: &Tokenizer,
    framing: &Framing,
    questions: &[Asked],
    limit: usize,
    stride: usize,
) -> Result<Vec<FramedQuestion>> {
    if framing.before.is_empty() {
        let problem =
            "it puts nothing in front of a text, so a model can't say there that a passage has no answer";
        return Err(EngineError::BadFile { path: "tokenizer.json".into(), problem: problem.to_owned() });
    }
    let asked: Vec<&str> = questions.iter().map(|(question, _)| *question).collect();
    let asked = tokenizer.encode_batch(&asked)?;
    let mut framed = Vec::with_capacity(questions.len());
    // Questions on one passage mostly stand together.
    let (mut last, mut ids, mut offsets) = ("", Vec::new(), Arc::from([]));
    for (question, (_, passage)) in asked.iter().zip(questions) {
        if *passage != last {
            let placed = tokenizer.encode_with_offsets(passage)?;
            ids = placed.iter().map(|(id, _)| *id).collect();
            offsets = placed.into_iter().map(|(_, bytes)| bytes).collect();
            last = passage;
        }
        let kept = question.len().min(question_room(framing, limit));
        let windows = windows(framing, &question[..kept], &ids, limit, stride);
        framed.push(FramedQuestion { windows, offsets: Arc::clone(&offsets), cut: question.len() - kept });
    }
    Ok(framed)
}

/// How many tokens of a question a window of `limit` tokens keeps.
pub fn question_room(framing: &Framing, limit: usize) -> usize {
    limit.saturating_sub(framing.before.len() + 2 * framing.after.len()) / 2
}

fn windows(framing: &Framing, question: &[u32], passage: &[u32], limit: usize, stride: usize) -> Vec<Window> {
    let around = framing.before.len() + 2 * framing.after.len() + question.len();
    let room = limit.saturating_sub(around).max(1);
    let (mut windows, mut start) = (Vec::new(), 0);
    loop {
        let end = (start + room).min(passage.len());
        windows.push(Window {
            input: framing.pair(question, &passage[start..end], around + room),
            first_row: framing.before.len() + question.len() + framing.after.len(),
            tokens: start..end,
        });
        if end == passage.len() {
            return windows;
        }
        start = end - stride.min(room / 2);
    }
}
