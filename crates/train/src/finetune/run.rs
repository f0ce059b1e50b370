//! From labelled texts to the folder of a model that classifies, with its card and its report.

use crate::error::TrainError;
use crate::finetune::adapt::{Parameters, save_task};
use crate::finetune::classify::{Answer, ClassifyLearner, Example, Judgement};
use crate::finetune::compare::baselines;
use crate::finetune::fit::{Observer, fit};
use crate::finetune::folder::{Finished, Outcome, Parts, parts};
use crate::finetune::report::Wrong;
use crate::finetune::settings::{Settings, TooLong};
use crate::finetune::start::start;
use crate::metrics::bootstrap::{Bootstrap, mean};
use hearth_data::labelled::{ClassifyExample, Label, Loaded};
use hearth_engine::{Framing, TextPair, frame_texts, highest};
use hearth_model::{Problem, Task, Weights};
use hearth_tokenizer::Tokenizer;
use serde_json::Map;
use std::collections::BTreeSet;
use std::path::Path;

/// Fine-tunes `model` (a folder, a GGUF file or an adapter) on `training`, and writes the result into `out`. Held-out
/// examples are `heldout`, or a share of `training` chosen by the hash of the text.
///
/// # Errors
/// If the model or the examples can't be used, or the disk fails; nothing is written then.
pub fn finetune_classify(
    model: &Path,
    training: Loaded<ClassifyExample>,
    heldout: Option<Loaded<ClassifyExample>>,
    settings: &Settings,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    settings.check()?;
    let Parts { sources, training, heldout } = parts(training, heldout, settings.holdout)?;
    let (labels, problem) = labels_of(&training)?;
    let (tokenizer, mut network, weights) = start(model, Task::Sequence(labels.len()), settings)?;
    let limit = settings.max_tokens.min(network.backbone().max_positions());
    let encode = |texts: &[ClassifyExample], what: &str| encode(&tokenizer, texts, &labels, limit, what);
    let (train_examples, held_examples) =
        (encode(&training, "training")?, encode(&heldout, "held-out examples")?);
    let (training, train_examples, cut) = within(training, train_examples, limit, settings.too_long)?;
    let (heldout, held_examples, more_cut) = within(heldout, held_examples, limit, settings.too_long)?;
    let cut = cut + more_cut;
    observer.say(&format!(
        "{} examples to learn from, {} held out; {} ({}); {}; {} steps of {} examples",
        train_examples.len(),
        held_examples.len(),
        match problem {
            Problem::Regression => "a value".to_owned(),
            _ => format!("{} labels", labels.len()),
        },
        problem.name(),
        Parameters::told(&weights),
        settings.steps(train_examples.len()),
        settings.batch,
    ));
    if cut > 0 {
        observer.say(&settings.too_long.told(cut, "examples", limit));
    }
    let mut cheap = Vec::new();
    if settings.compare {
        if problem != Problem::SingleLabel {
            let problem =
                "cheap models are there for one label an example\nhint: leave out --compare".to_owned();
            return Err(TrainError::Recipe { place: "--compare".into(), problem });
        }
        observer.say("cheap models on the same examples");
        cheap = baselines(&training, &heldout, &labels, settings, observer)?;
    }
    let metric = ClassifyLearner::metric(problem);
    let mut learner = ClassifyLearner::new(&mut network, problem, &train_examples, &held_examples, settings);
    let (fitted, mut judgement) = fit(&mut learner, weights, settings, metric, Some(out), observer)?;
    let answers: Vec<&Answer> = held_examples.iter().map(|example| &example.answer).collect();
    add_interval(&mut judgement, &answers);

    let save = |out: &Path, weights: &Weights| {
        Ok(save_task(out, model, &network, weights, &labels, problem, &tokenizer)?)
    };
    Finished {
        task: ("classify", "Classification"),
        settings: Some(settings),
        seed: settings.seed,
        sources: &sources,
        about: Map::from_iter([("problem".to_owned(), problem.name().into())]),
        examples: (train_examples.len(), held_examples.len()),
        cut,
        metric,
        wrong: wrong(&heldout, &judgement, &answers, &labels),
        metrics: judgement.metrics,
        confusion: judgement.confusion,
        labels: labels.clone(),
        fitted,
        save: &save,
        tokenizer: Some(&tokenizer),
        limit: Some(limit),
        baselines: cheap,
    }
    .write(out)
}

/// Does with examples of more than `limit` tokens as `too_long` says, and counts them.
fn within(
    texts: Vec<ClassifyExample>,
    examples: Vec<Example>,
    limit: usize,
    too_long: TooLong,
) -> Result<(Vec<ClassifyExample>, Vec<Example>, usize), TrainError> {
    let longest = examples.iter().map(|e| e.input.ids.len() + e.input.cut).max();
    let count = examples.iter().filter(|e| e.input.cut > 0).count();
    too_long.check(count, examples.len(), limit, longest)?;
    let both = texts.into_iter().zip(examples);
    let (texts, examples) = both.filter(|(_, e)| e.input.cut == 0 || too_long == TooLong::Cut).unzip();
    Ok((texts, examples, count))
}

/// Where the accuracy would lie on other examples of the same kind, in 95 of 100 cases.
pub(crate) fn add_interval(judgement: &mut Judgement, answers: &[&Answer]) {
    let right = judgement.scores.iter().zip(answers).filter_map(|(scores, answer)| match answer {
        Answer::Label(place) => Some(f64::from(u8::from(highest(scores) == *place))),
        _ => None,
    });
    let right: Vec<f64> = right.collect();
    if let Some(interval) = Bootstrap::default().interval(right.len(), mean(&right)) {
        judgement.metrics.insert("accuracy_low".into(), interval.low);
        judgement.metrics.insert("accuracy_high".into(), interval.high);
    }
}

/// All labels, numbers by their size and words by their spelling, and what kind of problem they make.
pub(crate) fn labels_of(texts: &[ClassifyExample]) -> Result<(Vec<String>, Problem), TrainError> {
    let fail = |problem: &str| TrainError::Recipe { place: "labels".into(), problem: problem.to_owned() };
    let Some(first) = texts.first() else {
        return Err(fail("there is no example to learn from\nhint: give more data, or --valid F"));
    };
    let kind = std::mem::discriminant(&first.label);
    if texts.iter().any(|example| std::mem::discriminant(&example.label) != kind) {
        return Err(fail("some examples have one label and others a list of them or a value"));
    }
    let mut found = BTreeSet::new();
    let problem = match &first.label {
        Label::One(_) => Problem::SingleLabel,
        Label::Several(_) => Problem::MultiLabel,
        Label::Number(_) => return Ok((vec!["value".to_owned()], Problem::Regression)),
    };
    for example in texts {
        match &example.label {
            Label::One(label) => drop(found.insert(label.clone())),
            Label::Several(labels) => found.extend(labels.iter().cloned()),
            Label::Number(_) => {}
        }
    }
    let mut labels: Vec<String> = found.into_iter().collect();
    if labels.iter().all(|label| label.parse::<i64>().is_ok()) {
        labels.sort_by_key(|label| label.parse::<i64>().unwrap_or_default());
    }
    if labels.len() < 2 && problem == Problem::SingleLabel {
        return Err(fail("all examples have the same label; there is nothing to learn"));
    }
    Ok((labels, problem))
}

fn encode(
    tokenizer: &Tokenizer,
    texts: &[ClassifyExample],
    labels: &[String],
    limit: usize,
    what: &str,
) -> Result<Vec<Example>, TrainError> {
    if texts.is_empty() {
        let problem = format!("{what}: there are none\nhint: give more data, or a larger --holdout");
        return Err(TrainError::Recipe { place: "examples".into(), problem });
    }
    let pairs: Vec<TextPair> = texts.iter().map(|e| (e.text.as_str(), e.second.as_deref())).collect();
    let inputs = frame_texts(tokenizer, &Framing::of(tokenizer), &pairs, limit)?;
    let place = |label: &str| {
        labels.iter().position(|known| known == label).ok_or_else(|| TrainError::Recipe {
            place: what.to_owned(),
            problem: format!("label {label:?} isn't among those to learn from: {}", labels.join(", ")),
        })
    };
    let answers = texts.iter().map(|example| match &example.label {
        Label::One(label) => Ok(Answer::Label(place(label)?)),
        Label::Several(given) => {
            given.iter().try_for_each(|label| place(label).map(drop))?;
            Ok(Answer::Labels(labels.iter().map(|label| given.contains(label)).collect()))
        }
        Label::Number(value) => Ok(Answer::Value(*value as f32)),
    });
    let answers: Vec<Answer> = answers.collect::<Result<_, TrainError>>()?;
    Ok(inputs.into_iter().zip(answers).map(|(input, answer)| Example { input, answer }).collect())
}

/// The examples that went wrong, those first of which the model was surest.
pub(crate) fn wrong(
    texts: &[ClassifyExample],
    judgement: &Judgement,
    answers: &[&Answer],
    labels: &[String],
) -> Vec<Wrong> {
    let names = |chosen: Vec<usize>| {
        let names: Vec<&str> = chosen.into_iter().map(|i| labels[i].as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let mut list: Vec<Wrong> = Vec::new();
    for ((text, scores), answer) in texts.iter().zip(&judgement.scores).zip(answers) {
        let (expected, got, off) = match answer {
            Answer::Label(place) => {
                let got = highest(scores);
                (labels[*place].clone(), labels[got].clone(), if got == *place { 0.0 } else { scores[got] })
            }
            Answer::Labels(gold) => {
                let chosen =
                    |holds: &dyn Fn(usize) -> bool| names((0..labels.len()).filter(|&i| holds(i)).collect());
                let off = gold.iter().zip(scores).map(|(&holds, p)| (p - f32::from(u8::from(holds))).abs());
                let off = off.fold(0.0, f32::max);
                (chosen(&|i| gold[i]), chosen(&|i| scores[i] > 0.5), if off > 0.5 { off } else { 0.0 })
            }
            Answer::Value(value) => {
                (value.to_string(), format!("{:.3}", scores[0]), (value - scores[0]).abs())
            }
        };
        if off > 0.0 {
            let text = [Some(text.text.as_str()), text.second.as_deref()].into_iter().flatten();
            list.push(Wrong { text: text.collect::<Vec<_>>().join(" ⏎ "), expected, got, sureness: off });
        }
    }
    list.sort_by(|a, b| b.sureness.total_cmp(&a.sureness));
    list
}
