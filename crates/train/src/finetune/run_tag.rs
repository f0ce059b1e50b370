//! From tagged sentences to the folder of a model that tags, with its card and its report.

use crate::error::TrainError;
use crate::finetune::adapt::{Parameters, save_task};
use crate::finetune::compare::taggers;
use crate::finetune::fit::{Observer, fit};
use crate::finetune::folder::{Finished, Outcome, Parts, parts};
use crate::finetune::report::Wrong;
use crate::finetune::settings::Settings;
use crate::finetune::start::start;
use crate::finetune::tag::{Sentence, TagLearner};
use hearth_data::labelled::{Loaded, TagExample};
use hearth_engine::{Framing, frame_words};
use hearth_model::{Problem, Task, Weights};
use hearth_tokenizer::Tokenizer;
use serde_json::Map;
use std::collections::BTreeSet;
use std::path::Path;

/// Fine-tunes `model` (a folder, a GGUF file or an adapter) on `training`, and writes the result into `out`. Held-out
/// sentences are `heldout`, or a share of `training` chosen by the hash of the tokens.
///
/// # Errors
/// If the model or the sentences can't be used, or the disk fails; nothing is written then.
pub fn finetune_tag(
    model: &Path,
    training: Loaded<TagExample>,
    heldout: Option<Loaded<TagExample>>,
    settings: &Settings,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    settings.check()?;
    let Parts { sources, training, heldout } = parts(training, heldout, settings.holdout)?;
    let labels: BTreeSet<&String> = training.iter().flat_map(|e| &e.tags).collect();
    let labels: Vec<String> = labels.into_iter().cloned().collect();
    let (tokenizer, mut network, weights) = start(model, Task::Tokens(labels.len()), settings)?;
    let limit = settings.max_tokens.min(network.backbone().max_positions());
    let encode = |examples: &[TagExample]| encode(&tokenizer, examples, &labels, limit);
    let (train_sentences, held_sentences) = (encode(&training)?, encode(&heldout)?);
    let gold: Vec<Vec<String>> = heldout.iter().map(|e| e.tags.clone()).collect();
    let pieces: usize = train_sentences.iter().map(|s| s.pieces.len()).sum();
    observer.say(&format!(
        "{} sentences to learn from, {} held out; {} tags; {}; {} steps of {} sentences",
        training.len(),
        heldout.len(),
        labels.len(),
        Parameters::told(&weights),
        settings.steps(pieces),
        settings.batch,
    ));
    if pieces > train_sentences.len() {
        let more = pieces - train_sentences.len();
        observer.say(&format!(
            "sentences longer than {limit} tokens are divided: {more} more stretches of words"
        ));
    }
    let mut cheap = Vec::new();
    if settings.compare {
        cheap = taggers(&training, &heldout, &labels, settings.seed, observer)?;
    }
    let metric = TagLearner::metric(&labels);
    let mut learner =
        TagLearner::new(&mut network, &labels, &train_sentences, &held_sentences, &gold, settings);
    let (fitted, judgement) = fit(&mut learner, weights, settings, metric, Some(out), observer)?;
    let save = |out: &Path, weights: &Weights| {
        Ok(save_task(out, model, &network, weights, &labels, Problem::SingleLabel, &tokenizer)?)
    };
    Finished {
        task: ("tag", "Tagging"),
        settings: Some(settings),
        seed: settings.seed,
        sources: &sources,
        about: Map::new(),
        examples: (training.len(), heldout.len()),
        cut: 0,
        metric,
        wrong: wrong(&heldout, &judgement.tags, &labels),
        metrics: judgement.metrics,
        confusion: None,
        labels: labels.clone(),
        fitted,
        save: &save,
        tokenizer: Some(&tokenizer),
        limit: Some(limit),
        baselines: cheap,
    }
    .write(out)
}

fn encode(
    tokenizer: &Tokenizer,
    examples: &[TagExample],
    labels: &[String],
    limit: usize,
) -> Result<Vec<Sentence>, TrainError> {
    let words: Vec<&[String]> = examples.iter().map(|e| e.tokens.as_slice()).collect();
    let framed = frame_words(tokenizer, &Framing::of(tokenizer), &words, limit)?;
    let place = |tag: &String| labels.binary_search(tag).ok();
    let sentences = framed
        .into_iter()
        .zip(examples)
        .map(|(pieces, example)| Sentence { pieces, tags: example.tags.iter().map(place).collect() });
    Ok(sentences.collect())
}

/// The sentences with wrong tags, those with the largest share first.
pub(crate) fn wrong(examples: &[TagExample], tags: &[Vec<usize>], labels: &[String]) -> Vec<Wrong> {
    let mut list = Vec::new();
    for (example, tags) in examples.iter().zip(tags) {
        let found: Vec<&str> = tags.iter().map(|&tag| labels[tag].as_str()).collect();
        let right: Vec<&str> = example.tags.iter().map(String::as_str).collect();
        let differing: Vec<usize> = (0..right.len()).filter(|&i| right[i] != found[i]).collect();
        if differing.is_empty() {
            continue;
        }
        let told = |tags: &[&str]| {
            let words = differing.iter().map(|&i| format!("{} {}", example.tokens[i], tags[i]));
            words.collect::<Vec<_>>().join(", ")
        };
        let sureness = differing.len() as f32 / right.len() as f32;
        list.push(Wrong {
            text: example.tokens.join(" "),
            expected: told(&right),
            got: told(&found),
            sureness,
        });
    }
    list.sort_by(|a, b| b.sureness.total_cmp(&a.sureness));
    list
}
