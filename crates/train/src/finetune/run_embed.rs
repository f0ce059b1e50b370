//! From queries with their texts to the folder of a model that embeds, with its card and its report.

use crate::error::TrainError;
use crate::finetune::embed::{EmbedLearner, EmbedSettings, Found, Pairs, judge_retrieval};
use crate::finetune::fit::{Fitted, Metrics, Observer, fit};
use crate::finetune::folder::{Finished, Outcome, Parts, parts};
use crate::finetune::report::Wrong;
use crate::finetune::settings::Settings;
use hearth_data::labelled::{Loaded, PairExample};
use hearth_engine::{EmbedOptions, Embedder};
use hearth_model::tape::TrainableEncoder;
use hearth_model::{EncoderFolder, StoredType, Weights, save_encoder_folder};
use hearth_tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The prompts that prefixes become in the model's files, by sentence-transformers' names.
const QUERY: &str = "query";
const TEXT: &str = "document";

/// Fine-tunes the encoder in the folder `model` on `training`, and writes the result into `out`. Held-out queries are
/// `heldout`, or a share of `training` chosen by the query's hash; each ranks all texts of the held-out examples, hard
/// negatives among them.
///
/// # Errors
/// If the model or the examples can't be used, or the disk fails; nothing is written then.
pub fn finetune_embed(
    model: &Path,
    training: Loaded<PairExample>,
    heldout: Option<Loaded<PairExample>>,
    (settings, own): (&Settings, &EmbedSettings),
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    settings.check()?;
    own.check()?;
    let Parts { sources, training, heldout } = parts(training, heldout, settings.holdout)?;
    let (mut training, mut heldout) = (Pairs::of(&training), Pairs::of(&heldout));
    if training.texts.len() < 2 {
        let problem = "all examples have the same text, so there is nothing to tell it from".to_owned();
        return Err(TrainError::Recipe { place: "fine-tuning".into(), problem });
    }
    let EncoderFolder { encoder, weights, .. } = EncoderFolder::open(model)?;
    let max_tokens = Some(settings.max_tokens);
    let options = EmbedOptions { normalize: Some(true), max_tokens, ..EmbedOptions::default() };
    let mut embedder = Embedder::open(model, &options)?;
    embedder.notes().iter().for_each(|note| observer.say(note));
    let prompt = |given: &Option<String>, name: &str| {
        let prompt = given.clone().or_else(|| embedder.prompts().get(name).cloned());
        (name.to_owned(), prompt.unwrap_or_default())
    };
    let prompts = BTreeMap::from([prompt(&own.query_prefix, QUERY), prompt(&own.text_prefix, TEXT)]);
    let prefixes = (prompts[QUERY].as_str(), prompts[TEXT].as_str());
    let cut = training.encode(&embedder, prefixes)? + heldout.encode(&embedder, prefixes)?;
    let examples = (training.examples().len(), heldout.queries.len());
    observer.say(&format!(
        "{} queries with {} texts to learn from, {} queries with {} texts held out; {} parameters; {} steps of {} pairs",
        training.queries.len(),
        training.texts.len(),
        heldout.queries.len(),
        heldout.texts.len(),
        encoder.n_params(),
        settings.steps(examples.0),
        settings.batch,
    ));
    if cut > 0 {
        observer.say(&format!("{cut} queries and texts were cut to {} tokens", embedder.max_tokens()));
    }
    let before = judge_retrieval(&mut embedder, &heldout)?.metrics;
    observer.say(&format!("before: mrr {:.4}, ndcg@10 {:.4}", before["mrr"], before["ndcg@10"]));
    let mut network = TrainableEncoder::new(encoder);
    let mut learner = EmbedLearner::new(&mut network, &mut embedder, &training, &heldout, own, settings);
    let (fitted, retrieval) = fit(&mut learner, weights, settings, EmbedLearner::METRIC, observer)?;
    warn_if_worse(&before, &retrieval.metrics, &fitted, observer);
    let save = |out: &Path, weights: &Weights| {
        embedder.save_rules(out, &prompts)?;
        save_encoder_folder(out, network.encoder(), weights, StoredType::F32)
    };
    Finished {
        task: ("embed", "Embedding"),
        settings,
        sources: &sources,
        labels: Vec::new(),
        about: about(own, &embedder, &prompts, &before),
        examples,
        cut,
        metric: EmbedLearner::METRIC,
        wrong: wrong(&heldout, &retrieval.found),
        metrics: with_before(retrieval.metrics, &before),
        confusion: None,
        fitted,
        save: &save,
        tokenizer: &Tokenizer::from_folder(model)?,
        limit: embedder.max_tokens(),
        baselines: Vec::new(),
    }
    .write(out)
}

/// What the card says of this task alone.
fn about(
    own: &EmbedSettings,
    embedder: &Embedder,
    prompts: &BTreeMap<String, String>,
    before: &Metrics,
) -> Map<String, Value> {
    let facts = json!({
        "embed": {
            "pooling": embedder.pooling().to_string(),
            "scale": own.scale,
            "hard_negatives": own.hard_negatives,
            "prompts": prompts,
        },
        "metrics_before": before,
    });
    facts.as_object().cloned().unwrap_or_default()
}

/// The metrics, with those of the model before it learnt.
fn with_before(mut metrics: Metrics, before: &Metrics) -> Metrics {
    for name in ["mrr", "ndcg@10"] {
        metrics.insert(format!("{name}_before"), before[name]);
    }
    metrics
}

fn warn_if_worse(before: &Metrics, after: &Metrics, fitted: &Fitted, observer: &mut dyn Observer) {
    let (before, after) = (before[EmbedLearner::METRIC], after[EmbedLearner::METRIC]);
    if after < before {
        observer.say(&format!(
            "the model was better before: mrr {before:.4}, and {after:.4} after step {}\nhint: a lower --lr, fewer \
             --epochs or more examples may help",
            fitted.best_step
        ));
    }
}

/// The queries whose nearest text isn't theirs, those that were furthest off first.
fn wrong(pairs: &Pairs, found: &[Found]) -> Vec<Wrong> {
    let missed = pairs.queries.iter().zip(found).filter(|(_, found)| found.nearest != found.right);
    let mut list: Vec<Wrong> = missed
        .map(|(query, found)| Wrong {
            text: query.text.clone(),
            expected: pairs.texts[found.right].text.clone(),
            got: pairs.texts[found.nearest].text.clone(),
            sureness: found.lead,
        })
        .collect();
    list.sort_by(|a, b| b.sureness.total_cmp(&a.sureness));
    list
}
