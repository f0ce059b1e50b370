//! From queries with their texts to the folder of a model that embeds, with its card and its report.

use crate::error::TrainError;
use crate::finetune::adapt::Parameters;
use crate::finetune::embed::{EmbedLearner, EmbedSettings, Found, Pairs, Prompts, judge_retrieval};
use crate::finetune::fit::{Fitted, Metrics, Observer, fit};
use crate::finetune::folder::{Finished, Outcome, Parts, parts};
use crate::finetune::report::Wrong;
use crate::finetune::settings::{Settings, TooLong};
use crate::finetune::start::{open_backbone, padded};
use hearth_data::labelled::{Loaded, PairExample};
use hearth_engine::{EmbedOptions, Embedder};
use hearth_model::executor::Role;
use hearth_model::hf::SpecialIds;
use hearth_model::{
    AdapterOf, Backbone, Lora, ModelError, StoredType, Weights, save_adapter, save_encoder_folder,
    save_folder,
};
use hearth_tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::path::Path;

/// Fine-tunes `model` (a folder, a GGUF file or an adapter) on `training`, and writes the result into `out`. Held-out
/// queries are `heldout`, or a share of `training` chosen by the query's hash; each ranks all texts of the held-out
/// examples, hard negatives among them.
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
    let (tokenizer, mut network, mut weights) = open_backbone(model)?;
    let tokenizer = padded(tokenizer, &network);
    let max_tokens = Some(settings.max_tokens);
    let options = EmbedOptions { normalize: Some(true), max_tokens, ..EmbedOptions::default() };
    let mut embedder = Embedder::open(model, &options)?;
    embedder.notes().iter().for_each(|note| observer.say(note));
    let prompts = own.prompts(&embedder);
    let (training, cut) = encode(training, &embedder, &prompts, settings.too_long)?;
    let (heldout, more_cut) = encode(heldout, &embedder, &prompts, settings.too_long)?;
    let cut = cut + more_cut;
    if training.texts.len() < 2 {
        let problem = "all examples have the same text, so there is nothing to tell it from".to_owned();
        return Err(TrainError::Recipe { place: "fine-tuning".into(), problem });
    }
    if heldout.queries.is_empty() {
        let problem = "there are no held-out queries\nhint: give more data, or a larger --holdout".to_owned();
        return Err(TrainError::Recipe { place: "examples".into(), problem });
    }
    let lora = adapt(&network, &mut weights, settings)?;
    network.set_lora(lora);
    let examples = (training.examples().len(), heldout.queries.len());
    observer.say(&format!(
        "{} queries with {} texts to learn from, {} queries with {} texts held out; {}; {} steps of {} pairs",
        training.queries.len(),
        training.texts.len(),
        heldout.queries.len(),
        heldout.texts.len(),
        Parameters::told(&weights),
        settings.steps(examples.0),
        settings.batch,
    ));
    if cut > 0 {
        observer.say(&settings.too_long.told(cut, "queries and texts", embedder.max_tokens()));
    }
    let before = judge_retrieval(&mut embedder, &heldout)?.metrics;
    observer.say(&format!("before: mrr {:.4}, ndcg@10 {:.4}", before["mrr"], before["ndcg@10"]));
    let mut learner = EmbedLearner::new(&mut network, &mut embedder, &training, &heldout, own, settings);
    let (fitted, retrieval) =
        fit(&mut learner, weights, settings, EmbedLearner::METRIC, Some(out), observer)?;
    warn_if_worse(&before, &retrieval.metrics, &fitted, observer);
    let write = |out: &Path, weights: &Weights| {
        embedder.save_rules(out, &prompts.by_name())?;
        Ok(save(out, model, &network, weights, &tokenizer)?)
    };
    Finished {
        task: ("embed", "Embedding"),
        settings: Some(settings),
        seed: settings.seed,
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
        save: &write,
        tokenizer: Some(&tokenizer),
        limit: Some(embedder.max_tokens()),
        baselines: Vec::new(),
    }
    .write(out)
}

/// Queries and texts as the model sees them, and how many are longer than it takes: those are left out if `too_long`
/// says so, with queries that have no text any more.
fn encode(
    mut examples: Vec<PairExample>,
    embedder: &Embedder,
    prompts: &Prompts,
    too_long: TooLong,
) -> Result<(Pairs, usize), TrainError> {
    let mut pairs = Pairs::of(&examples);
    pairs.encode(embedder, prompts)?;
    let long = || pairs.passages().filter(|passage| passage.cut > 0);
    let (count, longest) = (long().count(), long().map(|passage| passage.ids.len() + passage.cut).max());
    too_long.check(count, pairs.passages().count(), embedder.max_tokens(), longest)?;
    if count == 0 || too_long == TooLong::Cut {
        return Ok((pairs, count));
    }
    let left_out: HashSet<String> = long().map(|passage| passage.text.clone()).collect();
    for example in &mut examples {
        example.positives.retain(|text| !left_out.contains(text));
        example.negatives.retain(|text| !left_out.contains(text));
    }
    examples.retain(|example| !example.positives.is_empty() && !left_out.contains(&example.query));
    let mut pairs = Pairs::of(&examples);
    pairs.encode(embedder, prompts)?;
    Ok((pairs, count))
}

/// Freezes what isn't trained, and makes updates of low rank if there are to be any.
fn adapt(
    backbone: &Backbone,
    weights: &mut Weights,
    settings: &Settings,
) -> Result<Option<Lora>, TrainError> {
    let specs = backbone.specs();
    let parameters = Parameters {
        specs,
        backbone: specs.len(),
        n_layers: backbone.n_layers(),
        fresh: &[],
        in_out: backbone.stores_in_out(),
    };
    let lora = parameters.adapt(weights, &settings.adapt, settings.seed)?;
    // What turns a decoder's states into words has no part in a vector.
    weights.freeze(|i| specs.get(i).is_none_or(|spec| spec.role != Role::Head));
    Ok(lora)
}

/// Writes the model's folder; updates of low rank are in its weights, and beside it, in `adapter`, as PEFT has them.
fn save(
    out: &Path,
    base: &Path,
    model: &Backbone,
    weights: &Weights,
    tokenizer: &Tokenizer,
) -> Result<(), ModelError> {
    let merged;
    let weights = match model.lora() {
        None => weights,
        Some(lora) => {
            let base = std::path::absolute(base)?;
            let of = AdapterOf {
                base: &base.to_string_lossy(),
                task: match model {
                    Backbone::Encoder(_) => "FEATURE_EXTRACTION",
                    // Its parameters have the names of the class that writes words.
                    Backbone::Decoder(_) => "CAUSAL_LM",
                },
                class_prefix: "",
                prefixed: model.specs().len(),
            };
            save_adapter(&out.join("adapter"), lora, model.specs(), weights, &of)?;
            merged = lora.merge(weights);
            &merged
        }
    };
    match model {
        Backbone::Encoder(model) => save_encoder_folder(out, model.encoder(), weights, StoredType::F32),
        Backbone::Decoder(model) => {
            let ids = SpecialIds { bos: tokenizer.bos(), eos: tokenizer.eos() };
            save_folder(out, model.decoder(), weights, ids, StoredType::F32)
        }
    }
}

/// What the card says of this task alone.
fn about(
    own: &EmbedSettings,
    embedder: &Embedder,
    prompts: &Prompts,
    before: &Metrics,
) -> Map<String, Value> {
    let facts = json!({
        "embed": {
            "pooling": embedder.pooling().to_string(),
            "scale": own.scale,
            "hard_negatives": own.hard_negatives,
            "prompts": prompts.by_name(),
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
