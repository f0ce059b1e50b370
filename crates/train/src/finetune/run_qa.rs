//! From questions on passages to the folder of a model that answers them, with its card and its report.

use crate::error::TrainError;
use crate::finetune::adapt::{Parameters, save_task};
use crate::finetune::fit::{Observer, fit};
use crate::finetune::folder::{Finished, Outcome, Parts, parts};
use crate::finetune::qa::{
    Heldout, QaJudgement, QaLearner, Script, TrainingWindow, answer_rows, answer_tokens,
};
use crate::finetune::report::Wrong;
use crate::finetune::settings::{Settings, TooLong};
use crate::finetune::start::start;
use hearth_data::labelled::{Loaded, QaExample};
use hearth_engine::{AnswerRules, Asked, FramedQuestion, Framing, frame_questions, question_room};
use hearth_model::{Problem, Task, Weights};
use serde_json::{Map, json};
use std::path::Path;

/// Fine-tunes `model` (a folder, a GGUF file or an adapter) on `training`, and writes the result into `out`. Held-out
/// questions are `heldout`, or those on a share of the passages of `training` chosen by their hash. Where some
/// questions to learn from have no answer, the model learns to say so, and the threshold of `rules` is chosen; else it
/// has none.
///
/// # Errors
/// If the model or the questions can't be used, or the disk fails; nothing is written then.
pub fn finetune_qa(
    model: &Path,
    training: Loaded<QaExample>,
    heldout: Option<Loaded<QaExample>>,
    settings: &Settings,
    rules: AnswerRules,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    settings.check()?;
    check(settings, rules)?;
    let Parts { sources, training, heldout } = parts(training, heldout, settings.holdout)?;
    let (tokenizer, mut network, weights) = start(model, Task::Span, settings)?;
    let limit = settings.max_tokens.min(network.backbone().max_positions());
    let framing = Framing::of(&tokenizer);
    let frame = |examples: &[QaExample]| {
        let questions: Vec<Asked> = examples.iter().map(|e| (e.question.as_str(), &*e.context)).collect();
        frame_questions(&tokenizer, &framing, &questions, limit, rules.stride)
    };
    let (train_framed, held_framed) = (frame(&training)?, frame(&heldout)?);
    let room = question_room(&framing, limit);
    let (training, train_framed, cut) = within(training, train_framed, room, settings.too_long)?;
    let (heldout, held_framed, more_cut) = within(heldout, held_framed, room, settings.too_long)?;
    let cut = cut + more_cut;
    let windows = training_windows(&training, &train_framed, observer)?;
    let script = Script::of(&heldout);
    let unanswered = training.iter().filter(|example| example.answers.is_empty()).count();
    observer.say(&format!(
        "{} questions to learn from ({unanswered} without an answer), {} held out, scored by {}; {}; {} steps of {} \
         windows",
        training.len(),
        heldout.len(),
        script.name(),
        Parameters::told(&weights),
        settings.steps(windows.len()),
        settings.batch,
    ));
    let more = windows.len() - training.len().min(windows.len());
    if more > 0 {
        observer
            .say(&format!("passages longer than {limit} tokens with their questions: {more} more windows"));
    }
    if cut > 0 {
        observer.say(&settings.too_long.told(cut, "questions", room));
    }
    let no_answer_threshold = (unanswered > 0).then_some(0.0);
    let rules = AnswerRules { no_answer_threshold, ..rules };
    let held = Heldout { examples: &heldout, framed: &held_framed, script, rules };
    let mut learner = QaLearner::new(&mut network, &windows, held, settings);
    let (fitted, judgement) = fit(&mut learner, weights, settings, "f1", Some(out), observer)?;
    let save = |out: &Path, weights: &Weights| {
        Ok(save_task(out, model, &network, weights, &[], Problem::SingleLabel, &tokenizer)?)
    };
    let about = [("answers", json!(judgement.rules)), ("scored_by", json!(script.name()))];
    Finished {
        task: ("qa", "Question answering"),
        settings: Some(settings),
        seed: settings.seed,
        sources: &sources,
        about: Map::from_iter(about.map(|(name, value)| (name.to_owned(), value))),
        examples: (training.len(), heldout.len()),
        cut,
        metric: "f1",
        wrong: wrong(&heldout, &judgement, script),
        metrics: judgement.metrics,
        confusion: None,
        labels: Vec::new(),
        fitted,
        save: &save,
        tokenizer: Some(&tokenizer),
        limit: Some(limit),
        baselines: Vec::new(),
    }
    .write(out)
}

/// Does with questions that a window has no `room` for as `too_long` says, and counts them.
fn within(
    examples: Vec<QaExample>,
    framed: Vec<FramedQuestion>,
    room: usize,
    too_long: TooLong,
) -> Result<(Vec<QaExample>, Vec<FramedQuestion>, usize), TrainError> {
    let count = framed.iter().filter(|question| question.cut > 0).count();
    let longest = framed.iter().map(|question| question.cut).max().map(|cut| room + cut);
    too_long.check(count, examples.len(), room, longest)?;
    let both = examples.into_iter().zip(framed);
    let (examples, framed) = both.filter(|(_, q)| q.cut == 0 || too_long == TooLong::Cut).unzip();
    Ok((examples, framed, count))
}

fn check(settings: &Settings, rules: AnswerRules) -> Result<(), TrainError> {
    let (place, problem) = if rules.max_answer_tokens == 0 {
        ("--max-answer", "0, expected at least one token".to_owned())
    } else if 2 * rules.stride > settings.max_tokens {
        let (stride, half) = (rules.stride, settings.max_tokens / 2);
        ("--stride", format!("{stride}, expected at most {half}, half of --max-tokens"))
    } else if settings.compare {
        let problem = "there are no cheap models that answer questions\nhint: leave out --compare";
        ("--compare", problem.to_owned())
    } else {
        return Ok(());
    };
    Err(TrainError::Recipe { place: place.to_owned(), problem })
}

/// The windows of all questions, with the rows of the first of their answers. A question whose answer has no token of
/// its own is left out, and told.
fn training_windows(
    examples: &[QaExample],
    framed: &[FramedQuestion],
    observer: &mut dyn Observer,
) -> Result<Vec<TrainingWindow>, TrainError> {
    let mut windows = Vec::new();
    let mut without_tokens = 0;
    for (example, question) in examples.iter().zip(framed) {
        let answer = example.answers.first().map(|answer| answer.bytes(&example.context));
        let tokens = answer.as_ref().and_then(|bytes| answer_tokens(question, bytes));
        if answer.is_some() && tokens.is_none() {
            without_tokens += 1;
            continue;
        }
        windows.extend(question.windows.iter().map(|window| TrainingWindow {
            input: window.input.clone(),
            rows: answer_rows(window, tokens.as_ref()),
        }));
    }
    if without_tokens > 0 {
        let problem = "have an answer that the tokenizer drops altogether, and are left out";
        observer.say(&format!("{without_tokens} questions to learn from {problem}"));
    }
    if windows.is_empty() {
        let problem = "there is no question to learn from\nhint: give more data, or --valid F".to_owned();
        return Err(TrainError::Recipe { place: "questions".into(), problem });
    }
    Ok(windows)
}

/// The questions with a wrong answer, those first of which the model was surest.
fn wrong(examples: &[QaExample], judgement: &QaJudgement, script: Script) -> Vec<Wrong> {
    let threshold = judgement.rules.no_answer_threshold;
    let mut list = Vec::new();
    for (example, answers) in examples.iter().zip(&judgement.answers) {
        let said = answers.best(threshold).map(|span| &example.context[span.bytes.clone()]);
        if script.score(said, example).exact > 0.0 {
            continue;
        }
        let mut right: Vec<&str> = example.answers.iter().map(|answer| answer.text.as_str()).collect();
        right.dedup();
        let in_words = |text: &str| if text.is_empty() { "no answer".to_owned() } else { text.to_owned() };
        list.push(Wrong {
            text: format!("{} ⏎ {}", example.question, example.context),
            expected: in_words(&right.join(" | ")),
            got: in_words(said.unwrap_or_default()),
            sureness: answers.probability(threshold),
        });
    }
    list.sort_by(|a, b| b.sureness.total_cmp(&a.sureness));
    list
}
