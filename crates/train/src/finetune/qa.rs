//! Learning to find answers: the first and the last token of the span of a passage that answers a question, or the
//! token in front of the text where a window holds no answer (Devlin et al. 2019, sections 4.2 and 4.3).

use crate::classical::is_spaceless;
use crate::error::TrainError;
use crate::finetune::fit::{Learner, Metrics};
use crate::finetune::loss::{Targets, loss};
use crate::finetune::settings::Settings;
use crate::metrics::answers::{AnswerScore, cmrc, squad_v1, squad_v2};
use hearth_data::labelled::QaExample;
use hearth_engine::{AnswerRules, Answers, Framed, FramedQuestion, Window, answer_windows};
use hearth_model::executor::ParamSpec;
use hearth_model::{TaskModel, TaskRunner, Weights};
use hearth_tensor::Tensor;
use std::ops::{ControlFlow, Range};

/// How an answer is held against the right ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// SQuAD's, by words; v2.0, which is v1.1 where every question has an answer.
    Squad,
    /// That of CMRC 2018, by Chinese characters.
    Cmrc,
}

impl Script {
    /// CMRC's if most of the passages' letters are of a script without spaces between words.
    pub fn of(examples: &[QaExample]) -> Self {
        let letters = || examples.iter().flat_map(|e| e.context.chars()).filter(|c| c.is_alphabetic());
        let spaceless = letters().filter(|&c| is_spaceless(c)).count();
        if 2 * spaceless > letters().count() { Script::Cmrc } else { Script::Squad }
    }

    /// Its name, as one would look for it.
    pub fn name(self) -> &'static str {
        match self {
            Script::Squad => "SQuAD's script (words)",
            Script::Cmrc => "CMRC 2018's script (Chinese characters)",
        }
    }

    /// The score of an answer, or of saying that there is none, for an example.
    pub fn score(self, said: Option<&str>, example: &QaExample) -> AnswerScore {
        let gold: Vec<&str> = example.answers.iter().map(|answer| answer.text.as_str()).collect();
        match (self, said) {
            _ if gold.is_empty() => {
                let right = if said.is_none() { 1.0 } else { 0.0 };
                AnswerScore { exact: right, f1: right }
            }
            (Script::Squad, Some(said)) => squad_v1(said, &gold),
            (Script::Squad, None) => squad_v2("", &gold),
            (Script::Cmrc, Some(said)) => cmrc(said, &gold),
            (Script::Cmrc, None) => AnswerScore::default(),
        }
    }
}

/// A window to learn from.
#[derive(Clone, Debug)]
pub struct TrainingWindow {
    /// Token ids and types.
    pub input: Framed,
    /// The rows of the answer's first and last token; 0 and 0 where the window doesn't hold all of it.
    pub rows: (u32, u32),
}

/// Which tokens of a passage hold the bytes of an answer; none if its characters are all such as the tokenizer drops.
pub fn answer_tokens(question: &FramedQuestion, answer: &Range<usize>) -> Option<Range<usize>> {
    let first = question.offsets.partition_point(|bytes| bytes.end <= answer.start);
    let end = question.offsets.partition_point(|bytes| bytes.start < answer.end);
    (first < end).then_some(first..end)
}

/// The rows of an answer's first and last token in a window; 0 and 0, which is what stands in front of the text, where
/// the window doesn't hold all of it or there is none.
pub fn answer_rows(window: &Window, answer: Option<&Range<usize>>) -> (u32, u32) {
    let row = |token: usize| (window.first_row + token - window.tokens.start) as u32;
    match answer {
        Some(tokens) if window.tokens.start <= tokens.start && tokens.end <= window.tokens.end => {
            (row(tokens.start), row(tokens.end - 1))
        }
        _ => (0, 0),
    }
}

/// A model that learns to answer, with its questions.
#[derive(Debug)]
pub struct QaLearner<'a> {
    model: &'a mut TaskModel,
    training: &'a [TrainingWindow],
    heldout: Heldout<'a>,
    dropout: f32,
}

/// Questions to judge by.
#[derive(Clone, Copy, Debug)]
pub struct Heldout<'a> {
    /// As they were read.
    pub examples: &'a [QaExample],
    /// As the model sees them.
    pub framed: &'a [FramedQuestion],
    /// What scores answers.
    pub script: Script,
    /// How answers are looked for. If there is a threshold for no answer, a look chooses it anew.
    pub rules: AnswerRules,
}

/// Answers to questions, and what follows from them.
#[derive(Clone, Debug)]
pub struct QaJudgement {
    /// By name.
    pub metrics: Metrics,
    /// What the model finds.
    pub answers: Vec<Answers>,
    /// The rules, with the threshold by which `f1` is highest.
    pub rules: AnswerRules,
}

impl<'a> QaLearner<'a> {
    /// A learner from `training`, judged on `heldout`.
    pub fn new(
        model: &'a mut TaskModel,
        training: &'a [TrainingWindow],
        heldout: Heldout<'a>,
        settings: &Settings,
    ) -> Self {
        QaLearner { model, training, heldout, dropout: settings.dropout }
    }
}

impl AsRef<Metrics> for QaJudgement {
    fn as_ref(&self) -> &Metrics {
        &self.metrics
    }
}

impl Learner for QaLearner<'_> {
    type Look = QaJudgement;

    fn specs(&self) -> &[ParamSpec] {
        self.model.specs()
    }

    fn examples(&self) -> usize {
        self.training.len()
    }

    fn tokens(&self, example: usize) -> usize {
        self.training[example].input.ids.len()
    }

    fn loss(&mut self, weights: &Weights, examples: &[usize], step: u64) -> Result<Tensor, TrainError> {
        let chosen: Vec<&TrainingWindow> = examples.iter().map(|&i| &self.training[i]).collect();
        let sequences: Vec<&[u32]> = chosen.iter().map(|w| w.input.ids.as_slice()).collect();
        let types = chosen.iter().flat_map(|w| w.input.types.iter().copied()).collect();
        let batch = self.model.backbone().batch(&sequences).with_types(types);
        (self.model.dropout, self.model.dropout_seed) = (self.dropout, step);
        let logits = self.model.logits(weights, &batch)?;
        loss(&logits, &Targets::Spans(chosen.iter().map(|w| w.rows).collect()), &batch)
    }

    fn look(&mut self, weights: &Weights) -> Result<QaJudgement, TrainError> {
        judge_answers(self.model, weights, self.heldout)
    }
}

/// What weights make of questions, run as they will be used: by the planned executor.
///
/// # Errors
/// If a window doesn't fit the model.
pub fn judge_answers(
    model: &TaskModel,
    weights: &Weights,
    heldout: Heldout,
) -> Result<QaJudgement, TrainError> {
    let mut runner = TaskRunner::new(model, weights)?;
    let longest = heldout.rules.max_answer_tokens;
    let answers = answer_windows(&mut runner, heldout.framed, longest, |_| ControlFlow::Continue(()))?;
    Ok(measure_answers(answers, heldout))
}

/// The metrics of answers, after the choice of a threshold for no answer if the rules have one.
pub fn measure_answers(answers: Vec<Answers>, heldout: Heldout) -> QaJudgement {
    let Heldout { examples, script, mut rules, .. } = heldout;
    let mut metrics = Metrics::new();
    let mut put = |name: &str, value: f64| {
        metrics.insert(name.to_owned(), value);
    };
    if rules.no_answer_threshold.is_some() {
        let threshold = best_threshold(&answers, examples, script);
        rules.no_answer_threshold = Some(threshold);
        put("no_answer_threshold", f64::from(threshold));
    }
    let scores = answers.iter().zip(examples).map(|(answers, example)| {
        let said = answers.best(rules.no_answer_threshold);
        (script.score(said.map(|span| &example.context[span.bytes.clone()]), example), example)
    });
    let scores: Vec<(AnswerScore, &QaExample)> = scores.collect();
    let mean = |value: fn(&AnswerScore) -> f64, with_answer: &[bool]| {
        let counted = scores.iter().filter(|(_, e)| with_answer.contains(&!e.answers.is_empty()));
        let values: Vec<f64> = counted.map(|(score, _)| value(score)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let all = &[true, false];
    put("em", mean(|score| score.exact, all).unwrap_or(0.0));
    put("f1", mean(|score| score.f1, all).unwrap_or(0.0));
    put("examples", scores.len() as f64);
    if rules.no_answer_threshold.is_some() {
        // SQuAD's script calls them HasAns_f1 and NoAns_f1.
        if let Some(f1) = mean(|score| score.f1, &[true]) {
            put("has_answer_f1", f1);
        }
        if let Some(f1) = mean(|score| score.f1, &[false]) {
            put("no_answer_f1", f1);
        }
    }
    QaJudgement { metrics, answers, rules }
}

/// The lead of "no answer" beyond which it is believed, by which the sum of F1 is highest: between two leads that
/// occur, or beyond all of them (as `find_best_thresh` in the script of SQuAD 2.0, which takes the leads themselves).
fn best_threshold(answers: &[Answers], examples: &[QaExample], script: Script) -> f32 {
    let gains = answers.iter().zip(examples).filter_map(|(answers, example)| {
        // What saying "no answer" gains; without any span it is said in any case.
        let span = answers.spans.first()?;
        let answered = script.score(Some(&example.context[span.bytes.clone()]), example).f1;
        Some((answers.no_answer_lead(), script.score(None, example).f1 - answered))
    });
    let mut gains: Vec<(f32, f64)> = gains.collect();
    gains.sort_by(|a, b| b.0.total_cmp(&a.0));
    let Some(&(highest, _)) = gains.first() else { return 0.0 };
    let (mut best, mut sum) = ((0.0, highest + 1.0), 0.0);
    for (place, (lead, gain)) in gains.iter().enumerate() {
        sum += gain;
        let next = gains.get(place + 1).map_or(lead - 2.0, |(next, _)| *next);
        if sum > best.0 && next < *lead {
            best = (sum, (lead + next) / 2.0);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_data::labelled::{Answer, Place};
    use hearth_engine::Span;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn example(context: &str, answer: &str) -> QaExample {
        let start = context.find(answer).map(|byte| context[..byte].chars().count()).expect("in it");
        let answers =
            if answer.is_empty() { Vec::new() } else { vec![Answer { text: answer.into(), start }] };
        let place = Place { file: 0, line: 1 };
        QaExample { id: "q".into(), question: "?".into(), context: Arc::from(context), answers, place }
    }

    #[test]
    fn a_script_is_chosen_by_the_letters_of_the_passages() {
        assert_eq!(Script::of(&[example("北京是首都 (Beijing)", "")]), Script::Squad);
        assert_eq!(Script::of(&[example("北京是首都。12345", "")]), Script::Cmrc);
        let chinese = example("北京是中国首都", "中国首都");
        assert_eq!(Script::Cmrc.score(Some("中国"), &chinese), AnswerScore { exact: 0.0, f1: 2.0 / 3.0 });
        assert_eq!(Script::Squad.score(Some("中国"), &chinese).f1, 0.0);
        for script in [Script::Squad, Script::Cmrc] {
            let none = example("a b", "");
            assert_eq!((script.score(None, &none).exact, script.score(Some("a"), &none).exact), (1.0, 0.0));
            assert_eq!(script.score(None, &chinese), AnswerScore::default());
        }
    }

    #[test]
    fn an_answer_is_where_its_bytes_are() {
        let window = |tokens: Range<usize>| Window { input: Framed::default(), first_row: 4, tokens };
        // Tokens of "ab c d", the space after c dropped.
        let offsets = Arc::from([0..1, 1..2, 3..4, 5..6]);
        let question = FramedQuestion { windows: Vec::new(), offsets, cut: 0 };
        for (bytes, tokens) in [
            (0..1, Some(0..1)),
            (1..4, Some(1..3)),
            (2..6, Some(2..4)),
            (4..5, None),
            // Half a token is the whole of it.
            (0..6, Some(0..4)),
        ] {
            assert_eq!(answer_tokens(&question, &bytes), tokens, "{bytes:?}");
        }
        assert_eq!(answer_rows(&window(1..4), Some(&(1..3))), (4, 5));
        assert_eq!(answer_rows(&window(2..4), Some(&(1..3))), (0, 0));
        assert_eq!(answer_rows(&window(0..2), Some(&(1..3))), (0, 0));
        assert_eq!(answer_rows(&window(0..4), None), (0, 0));
    }

    proptest! {
        #[test]
        fn no_other_threshold_is_better(leads in prop::collection::vec((-9i8..9, 0u8..3), 1..20)) {
            let examples: Vec<QaExample> =
                leads.iter().map(|&(_, kind)| example("a b", ["", "a", "a b"][usize::from(kind)])).collect();
            let answers: Vec<Answers> = leads.iter().map(|&(lead, _)| {
                Answers { spans: vec![Span { bytes: 0..1, score: 0.0 }], no_answer: f32::from(lead) / 2.0 }
            }).collect();
            let framed = vec![];
            let rules = |threshold| AnswerRules { no_answer_threshold: threshold, ..AnswerRules::default() };
            let heldout = Heldout { examples: &examples, framed: &framed, script: Script::Squad, rules: rules(Some(0.0)) };
            let chosen = measure_answers(answers.clone(), heldout);
            let f1_at = |threshold: f32| {
                let scores = answers.iter().zip(&examples).map(|(answers, example)| {
                    let said = answers.best(Some(threshold)).map(|_| "a");
                    Script::Squad.score(said, example).f1
                });
                scores.sum::<f64>() / examples.len() as f64
            };
            let threshold = chosen.rules.no_answer_threshold.expect("one");
            prop_assert!((chosen.metrics["f1"] - f1_at(threshold)).abs() < 1e-9);
            for quarter in -40..40 {
                prop_assert!(f1_at(quarter as f32 / 4.0) <= chosen.metrics["f1"] + 1e-9, "{quarter}/4");
            }
            let always = measure_answers(answers.clone(), Heldout { rules: rules(None), ..heldout });
            prop_assert!(!always.metrics.contains_key("no_answer_threshold"));
            prop_assert!((always.metrics["f1"] - f1_at(f32::INFINITY)).abs() < 1e-9);
        }
    }
}
