//! Questions to the spans of passages that answer them, by a model whose head gives each token two logits: of being an
//! answer's first token and of being its last (Devlin et al. 2019, sections 4.2 and 4.3).

use crate::classify::run_framed;
use crate::error::{EngineError, Result};
use crate::framing::{Framed, Framing};
use crate::windows::{Asked, FramedQuestion, Window, frame_questions};
use hearth_model::{Task, TaskFolder, TaskRunner};
use hearth_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::ops::{ControlFlow, Range};
use std::path::Path;

/// How answers are looked for; a model's own rules stand in its `hearth.json`, under `answers`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerRules {
    /// Tokens that a window of a long passage repeats of the one before.
    pub stride: usize,
    /// Most tokens of an answer.
    pub max_answer_tokens: usize,
    /// A passage holds no answer if that scores more than so much above the best span. `None`: it always holds one,
    /// which is what a model has to say that never saw another case.
    pub no_answer_threshold: Option<f32>,
}

impl Default for AnswerRules {
    /// Those of `transformers`' example; 128 tokens are for windows of 384, see [`AnswerRules::for_window`].
    fn default() -> Self {
        AnswerRules { stride: 128, max_answer_tokens: 30, no_answer_threshold: None }
    }
}

impl AnswerRules {
    /// The usual rules, with a stride of a third of a window of `tokens`, at most 128.
    pub fn for_window(tokens: usize) -> Self {
        let usual = AnswerRules::default();
        AnswerRules { stride: usual.stride.min(tokens / 3), ..usual }
    }
}

/// A span of a passage that may be the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Where it stands.
    pub bytes: Range<usize>,
    /// The logit of its first token plus that of its last.
    pub score: f32,
}

/// What a model finds in a passage.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// The best spans, the best first; at most [`KEPT_SPANS`], none in a passage without tokens.
    pub spans: Vec<Span>,
    /// The score of there being no answer: the sum of the two logits in front of the text, in the window where that
    /// is lowest.
    pub no_answer: f32,
}

/// Spans that are kept of a passage; the sureness of the best is its share among them.
pub const KEPT_SPANS: usize = 20;

impl Answers {
    /// By how much "no answer" outdoes the best span.
    pub fn no_answer_lead(&self) -> f32 {
        self.no_answer - self.spans.first().map_or(f32::NEG_INFINITY, |span| span.score)
    }

    /// The best span; none if there is none, or if "no answer" leads by more than `threshold`.
    pub fn best(&self, threshold: Option<f32>) -> Option<&Span> {
        let none = threshold.is_some_and(|threshold| self.no_answer_lead() > threshold);
        self.spans.first().filter(|_| !none)
    }

    /// The probability of what [`best`](Self::best) says: a softmax over the spans that were kept, and over "no answer"
    /// where a threshold says that this counts.
    pub fn probability(&self, threshold: Option<f32>) -> f32 {
        let scores = self.spans.iter().map(|span| span.score).chain(threshold.map(|_| self.no_answer));
        let highest = scores.clone().fold(f32::NEG_INFINITY, f32::max);
        let said = self.best(threshold).map_or(self.no_answer, |span| span.score);
        let sum: f32 = scores.map(|score| (score - highest).exp()).sum();
        if sum > 0.0 { (said - highest).exp() / sum } else { 1.0 }
    }
}

/// A model that answers questions, with its tokenizer.
#[derive(Debug)]
pub struct Answerer {
    runner: TaskRunner,
    tokenizer: Tokenizer,
    framing: Framing,
    max_tokens: usize,
    rules: AnswerRules,
}

impl Answerer {
    /// Opens the folder of a model with a head over spans. Its rules are those of its `hearth.json`; without one, the
    /// usual ones.
    ///
    /// # Errors
    /// If a file is missing or isn't what it should be, or the head is another one.
    pub fn open(dir: &Path) -> Result<Self> {
        let TaskFolder { model, weights, .. } = TaskFolder::open(dir)?;
        if model.task() != Task::Span {
            let problem = "its head doesn't find spans of a passage\nhint: hearth finetune qa makes a model that does; \
                           hearth classify and hearth tag run those with other heads";
            return Err(EngineError::BadFile { path: dir.join("config.json"), problem: problem.to_owned() });
        }
        let tokenizer = Tokenizer::from_folder(dir)?;
        let runner = TaskRunner::new(&model, &weights)?;
        let positions = runner.limits().1;
        let max_tokens = tokenizer.model_max_length().unwrap_or(positions).min(positions);
        let rules = rules_of(dir)?.unwrap_or_else(|| AnswerRules::for_window(max_tokens));
        let framing = Framing::of(&tokenizer);
        Ok(Answerer { runner, tokenizer, framing, max_tokens, rules })
    }

    /// How it looks for answers.
    pub fn rules(&self) -> AnswerRules {
        self.rules
    }

    /// The same model with other rules.
    #[must_use]
    pub fn with_rules(self, rules: AnswerRules) -> Self {
        Answerer { rules, ..self }
    }

    /// What the model finds for each question. A question's answers don't depend on the others. `go_on` hears how many
    /// windows are done.
    ///
    /// # Errors
    /// If a text can't be encoded, or the caller breaks off.
    pub fn answer(
        &mut self,
        questions: &[Asked],
        go_on: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Answers>> {
        let AnswerRules { stride, max_answer_tokens, .. } = self.rules;
        let framed = frame_questions(&self.tokenizer, &self.framing, questions, self.max_tokens, stride)?;
        answer_windows(&mut self.runner, &framed, max_answer_tokens, go_on)
    }
}

/// The rules that `hearth.json` has, if it is there and has any.
fn rules_of(dir: &Path) -> Result<Option<AnswerRules>> {
    #[derive(Deserialize)]
    struct Card {
        answers: Option<AnswerRules>,
    }
    let path = dir.join("hearth.json");
    if !path.exists() {
        return Ok(None);
    }
    let card: Result<Card, _> = serde_json::from_str(&fs_err::read_to_string(&path)?);
    card.map(|card| card.answers)
        .map_err(|error| EngineError::BadFile { path, problem: format!("not a model's card: {error}") })
}

/// What the model finds in the windows of each question.
///
/// # Errors
/// If a window doesn't fit the model, or the caller breaks off.
pub fn answer_windows(
    runner: &mut TaskRunner,
    questions: &[FramedQuestion],
    max_answer_tokens: usize,
    go_on: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Answers>> {
    let inputs: Vec<&Framed> = questions.iter().flat_map(|q| q.windows.iter().map(|w| &w.input)).collect();
    let mut logits = run_framed(runner, &inputs, go_on)?.into_iter();
    let answers = questions.iter().map(|question| {
        let mut best = BestSpans::default();
        let mut no_answer = f32::INFINITY;
        for (window, logits) in question.windows.iter().zip(logits.by_ref()) {
            no_answer = no_answer.min(logits[0] + logits[1]);
            best.look_through(window, &logits, max_answer_tokens);
        }
        let bytes = |first: usize, last: usize| question.offsets[first].start..question.offsets[last].end;
        let spans = best.0.into_iter().map(|(score, first, last)| Span { bytes: bytes(first, last), score });
        Answers { spans: spans.collect(), no_answer }
    });
    Ok(answers.collect())
}

/// Spans of a passage by their scores, with first and last token; each once, though several windows may hold it.
#[derive(Default)]
struct BestSpans(Vec<(f32, usize, usize)>);

impl BestSpans {
    /// All spans of a window's part of the passage that aren't too long, by their logits [T, 2].
    fn look_through(&mut self, window: &Window, logits: &[f32], max_answer_tokens: usize) {
        let count = window.tokens.len();
        let own = &logits[2 * window.first_row..][..2 * count];
        for first in 0..count {
            let last = (first + max_answer_tokens).min(count);
            for (place, ends) in own[2 * first..2 * last].chunks_exact(2).enumerate() {
                let start = window.tokens.start + first;
                self.offer(own[2 * first] + ends[1], start, start + place);
            }
        }
    }

    fn offer(&mut self, score: f32, first: usize, last: usize) {
        let before = |kept: &(f32, usize, usize)| {
            kept.0.total_cmp(&score).reverse().then((kept.1, kept.2).cmp(&(first, last))).is_lt()
        };
        let place = self.0.partition_point(before);
        if place >= KEPT_SPANS {
            return;
        }
        if let Some(same) = self.0.iter().position(|kept| (kept.1, kept.2) == (first, last)) {
            if same < place {
                return;
            }
            self.0.remove(same);
        }
        self.0.insert(place, (score, first, last));
        self.0.truncate(KEPT_SPANS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every span of every window in a list, sorted, each once.
    fn plainly(windows: &[(Window, Vec<f32>)], longest: usize) -> Vec<(f32, usize, usize)> {
        let mut all = Vec::new();
        for (window, logits) in windows {
            for (a, first) in window.tokens.clone().enumerate() {
                for (b, last) in window.tokens.clone().enumerate() {
                    if first <= last && last - first < longest {
                        let row = |place: usize| 2 * (window.first_row + place);
                        all.push((logits[row(a)] + logits[row(b) + 1], first, last));
                    }
                }
            }
        }
        all.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
        let mut seen = std::collections::HashSet::new();
        all.retain(|&(_, first, last)| seen.insert((first, last)));
        all.truncate(KEPT_SPANS);
        all
    }

    proptest! {
        #[test]
        fn the_best_spans_are_those_of_a_sorted_list(
            // Few values, so that many spans score the same.
            logits in prop::collection::vec(-3i8..4, 2 * 3 * 24),
            sizes in prop::collection::vec(0usize..20, 3),
            overlap in 0usize..6,
            longest in 1usize..12,
        ) {
            let mut start = 0;
            let windows: Vec<(Window, Vec<f32>)> = sizes.iter().enumerate().map(|(i, &size)| {
                let window = Window { input: Framed::default(), first_row: 2 + i, tokens: start..start + size };
                start += size.saturating_sub(overlap);
                (window, logits[48 * i..48 * (i + 1)].iter().map(|&x| f32::from(x)).collect())
            }).collect();
            let mut best = BestSpans::default();
            for (window, logits) in &windows {
                best.look_through(window, logits, longest);
            }
            prop_assert_eq!(best.0, plainly(&windows, longest));
        }
    }

    #[test]
    fn no_answer_wins_by_more_than_the_threshold() {
        let span = |score| Span { bytes: 3..5, score };
        let answers = Answers { spans: vec![span(4.0), span(1.0)], no_answer: 5.0 };
        for (threshold, found, probability) in [
            (None, true, 1.0 / (1.0 + (-3.0f32).exp())),
            (Some(1.0), true, 1.0 / (1.0 + (-3.0f32).exp() + 1.0f32.exp())),
            (Some(0.9), false, 1.0 / (1.0 + (-1.0f32).exp() + (-4.0f32).exp())),
        ] {
            assert_eq!(answers.best(threshold).is_some(), found);
            assert!((answers.probability(threshold) - probability).abs() < 1e-6, "{threshold:?}");
        }
        let nothing = Answers { spans: Vec::new(), no_answer: 1.0 };
        assert_eq!((nothing.best(None), nothing.probability(None)), (None, 1.0));
    }
}
