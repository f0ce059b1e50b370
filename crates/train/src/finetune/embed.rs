//! Learning to embed: the vectors of a query and of a text that belongs to it come to point the same way, and away
//! from those of the other texts of the batch (the dual encoder of Karpukhin et al. 2020, with one encoder for both).

use crate::error::TrainError;
use crate::finetune::fit::{Learner, Metrics};
use crate::finetune::settings::Settings;
use crate::metrics::ranking::{Relevant, ndcg, rank_of, recall, reciprocal_rank};
use hearth_data::labelled::PairExample;
use hearth_engine::{Embedder, Pooling};
use hearth_kernel::gemm::{Mat, MatMut, Write, gemm};
use hearth_model::executor::ParamSpec;
use hearth_model::tape::TokenBatch;
use hearth_model::{Backbone, Lora, Weights};
use hearth_tensor::{Tensor, nn};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

/// What only this task can be set to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbedSettings {
    /// What cosines are multiplied by: one over the temperature.
    pub scale: f32,
    /// Most hard negatives of an example in one batch; which ones changes with the step. One is what helps
    /// (Karpukhin et al. 2020, section 5.2).
    pub hard_negatives: usize,
    /// In front of each query; as the model's files say if none is given.
    pub query_prefix: Option<String>,
    /// In front of each text; as the model's files say if none is given.
    pub text_prefix: Option<String>,
}

impl Default for EmbedSettings {
    fn default() -> Self {
        EmbedSettings { scale: 20.0, hard_negatives: 1, query_prefix: None, text_prefix: None }
    }
}

impl EmbedSettings {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// Naming the setting, and what was expected.
    pub fn check(&self) -> Result<(), TrainError> {
        if self.scale.is_finite() && self.scale > 0.0 {
            return Ok(());
        }
        let problem = format!("scale is {}, expected more than 0", self.scale);
        Err(TrainError::Recipe { place: "fine-tuning".into(), problem })
    }

    /// The prefixes that are given, or those of the model's files.
    pub fn prompts(&self, embedder: &Embedder) -> Prompts {
        let of = |given: &Option<String>, name| {
            given.clone().or_else(|| embedder.prompts().get(name).cloned()).unwrap_or_default()
        };
        Prompts { query: of(&self.query_prefix, Prompts::QUERY), text: of(&self.text_prefix, Prompts::TEXT) }
    }
}

/// What stands in front of queries and of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompts {
    /// In front of each query.
    pub query: String,
    /// In front of each text.
    pub text: String,
}

impl Prompts {
    const QUERY: &str = "query";
    const TEXT: &str = "document";

    /// By the names that sentence-transformers looks for.
    pub fn by_name(&self) -> BTreeMap<String, String> {
        [(Self::QUERY, &self.query), (Self::TEXT, &self.text)].map(|(k, v)| (k.to_owned(), v.clone())).into()
    }
}

/// A query or a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// As the data has it.
    pub text: String,
    /// As the model sees it; empty until [`Pairs::encode`].
    pub ids: Vec<u32>,
    /// How many of its tokens the model doesn't see.
    pub cut: usize,
}

/// Queries and texts, each once, and which belong together. Rows with the same query are one query, and a text that
/// several queries have is one text, so that nothing that is right somewhere counts as wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// In the order of the data.
    pub queries: Vec<Passage>,
    /// In the order of the data, negatives among them.
    pub texts: Vec<Passage>,
    /// For each query the places of its texts.
    pub positives: Vec<BTreeSet<usize>>,
    /// For each query the places of its hard negatives, none of which is among its texts.
    pub negatives: Vec<BTreeSet<usize>>,
}

impl Pairs {
    /// Those of some examples.
    pub fn of(examples: &[PairExample]) -> Self {
        let (mut queries, mut texts) = (Numbered::default(), Numbered::default());
        let mut pairs = Pairs::default();
        for example in examples {
            let query = queries.place(&example.query);
            pairs.positives.resize(queries.list.len(), BTreeSet::new());
            pairs.negatives.resize(queries.list.len(), BTreeSet::new());
            pairs.positives[query].extend(example.positives.iter().map(|text| texts.place(text)));
            pairs.negatives[query].extend(example.negatives.iter().map(|text| texts.place(text)));
        }
        for (negatives, positives) in pairs.negatives.iter_mut().zip(&pairs.positives) {
            negatives.retain(|text| !positives.contains(text));
        }
        Pairs { queries: queries.list, texts: texts.list, ..pairs }
    }

    /// Each query with each of its texts.
    pub fn examples(&self) -> Vec<(usize, usize)> {
        let of_query = |(query, texts): (usize, &BTreeSet<usize>)| {
            texts.iter().map(move |&text| (query, text)).collect::<Vec<_>>()
        };
        self.positives.iter().enumerate().flat_map(of_query).collect()
    }

    /// Encodes all, with `prompts` in front of queries and of texts.
    ///
    /// # Errors
    /// If a text can't be encoded.
    pub fn encode(&mut self, embedder: &Embedder, prompts: &Prompts) -> Result<(), TrainError> {
        for (side, prompt) in [(&mut self.queries, &prompts.query), (&mut self.texts, &prompts.text)] {
            let texts: Vec<String> = side.iter().map(|passage| prompt.clone() + &passage.text).collect();
            let framed = embedder.sequences(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
            for (passage, framed) in side.iter_mut().zip(framed) {
                (passage.ids, passage.cut) = (framed.ids, framed.cut);
            }
        }
        Ok(())
    }

    /// All queries and texts.
    pub fn passages(&self) -> impl Iterator<Item = &Passage> {
        self.queries.iter().chain(&self.texts)
    }
}

/// Gives equal texts one place.
#[derive(Default)]
struct Numbered<'a> {
    list: Vec<Passage>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Numbered<'a> {
    fn place(&mut self, text: &'a str) -> usize {
        *self.places.entry(text).or_insert_with(|| {
            self.list.push(Passage { text: text.to_owned(), ..Passage::default() });
            self.list.len() - 1
        })
    }
}

/// The texts that a batch's queries choose among, which is right for each, and which don't count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// Places among the texts, each once: those that are right for some query first.
    pub texts: Vec<usize>,
    /// For each query the column of its text.
    pub targets: Vec<i32>,
    /// Rows and columns of what belongs to the query too, but isn't its target here.
    pub excluded: Vec<(usize, usize)>,
}

impl Choices {
    /// Those of a batch of queries with a text each; `hard_negatives` at most of each query's are added, from another
    /// one on at each `step`.
    pub fn of(pairs: &Pairs, batch: &[(usize, usize)], hard_negatives: usize, step: u64) -> Self {
        let mut choices = Choices::default();
        let mut columns = HashMap::new();
        let mut column = |text: usize| {
            *columns.entry(text).or_insert_with(|| {
                choices.texts.push(text);
                choices.texts.len() - 1
            })
        };
        choices.targets = batch.iter().map(|&(_, text)| column(text) as i32).collect();
        for (query, _) in batch {
            let negatives = &pairs.negatives[*query];
            let first = (step % negatives.len().max(1) as u64) as usize;
            let chosen = negatives.iter().cycle().skip(first).take(hard_negatives.min(negatives.len()));
            chosen.for_each(|&text| _ = column(text));
        }
        for (row, (query, target)) in batch.iter().enumerate() {
            let others = choices.texts.iter().enumerate().filter(|(_, text)| *text != target);
            let known = others.filter(|(_, text)| pairs.positives[*query].contains(text));
            choices.excluded.extend(known.map(|(column, _)| (row, column)));
        }
        choices
    }
}

/// One vector of length 1 for each sequence of hidden states [N, C]: [sequences, C].
///
/// # Errors
/// If the shapes don't agree.
pub fn pooled(hidden: &Tensor, batch: &TokenBatch, pooling: Pooling) -> Result<Tensor, TrainError> {
    let vectors = match pooling {
        Pooling::Mean => batch.sequence_means(hidden)?,
        Pooling::Cls => nn::embedding(hidden, &batch.first_rows())?,
        Pooling::Last => nn::embedding(hidden, &batch.last_rows())?,
    };
    // Far below the length of any vector that isn't zero, as in `torch.nn.functional.normalize`.
    let lengths = vectors.square().sum_axis(1, true)?.add_scalar(1e-24).sqrt();
    Ok(vectors.div(&lengths)?)
}

/// The mean over B queries of `-ln softmax(scale · q · tᵀ)` at the right one of D texts (Henderson et al. 2017,
/// section 4; sentence-transformers' `MultipleNegativesRankingLoss`); `vectors` [B + D, C] of length 1, queries first.
///
/// # Errors
/// If the shapes don't agree.
pub fn contrastive_loss(vectors: &Tensor, choices: &Choices, scale: f32) -> Result<Tensor, TrainError> {
    let (rows, columns) = (choices.targets.len(), choices.texts.len());
    let (queries, texts) = (vectors.slice(0, 0..rows)?, vectors.slice(0, rows..rows + columns)?);
    let mut scores = nn::linear(&queries, &texts, None, None)?.scale(scale);
    if !choices.excluded.is_empty() {
        let mut shift = vec![0.0; rows * columns];
        choices.excluded.iter().for_each(|(row, column)| shift[row * columns + column] = f32::NEG_INFINITY);
        scores = scores.add(&Tensor::from_vec(shift, &[rows, columns])?)?;
    }
    Ok(nn::cross_entropy(&scores, &choices.targets, &Default::default())?.loss)
}

/// A model that learns to embed, with its queries and texts.
#[derive(Debug)]
pub struct EmbedLearner<'a> {
    model: &'a mut Backbone,
    specs: Vec<ParamSpec>,
    /// Runs the weights for looks, as they will be used.
    embedder: &'a mut Embedder,
    training: &'a Pairs,
    heldout: &'a Pairs,
    examples: Vec<(usize, usize)>,
    settings: &'a EmbedSettings,
    dropout: f32,
}

impl<'a> EmbedLearner<'a> {
    /// The metric that decides between looks.
    pub const METRIC: &'static str = "mrr";

    /// A learner from `training`, judged on `heldout`, both encoded.
    pub fn new(
        model: &'a mut Backbone,
        embedder: &'a mut Embedder,
        training: &'a Pairs,
        heldout: &'a Pairs,
        settings: &'a EmbedSettings,
        common: &Settings,
    ) -> Self {
        let (examples, dropout) = (training.examples(), common.dropout);
        let mut specs = model.specs().to_vec();
        specs.extend(model.lora().into_iter().flat_map(Lora::specs).cloned());
        EmbedLearner { model, specs, embedder, training, heldout, examples, settings, dropout }
    }
}

impl Learner for EmbedLearner<'_> {
    type Look = Retrieval;

    fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    fn examples(&self) -> usize {
        self.examples.len()
    }

    fn tokens(&self, example: usize) -> usize {
        let (query, text) = self.examples[example];
        self.training.queries[query].ids.len() + self.training.texts[text].ids.len()
    }

    fn loss(&mut self, weights: &Weights, examples: &[usize], step: u64) -> Result<Tensor, TrainError> {
        let chosen: Vec<(usize, usize)> = examples.iter().map(|&i| self.examples[i]).collect();
        let choices = Choices::of(self.training, &chosen, self.settings.hard_negatives, step);
        let queries = chosen.iter().map(|(query, _)| &self.training.queries[*query]);
        let texts = choices.texts.iter().map(|&text| &self.training.texts[text]);
        let sequences: Vec<&[u32]> = queries.chain(texts).map(|passage| passage.ids.as_slice()).collect();
        let batch = self.model.batch(&sequences);
        let hidden = self.model.hidden(weights, &batch, self.dropout, step)?;
        let vectors = pooled(&hidden, &batch, self.embedder.pooling())?;
        contrastive_loss(&vectors, &choices, self.settings.scale)
    }

    /// A text is held against all others of its batch.
    fn divisible(&self) -> bool {
        false
    }

    fn look(&mut self, weights: &Weights) -> Result<Retrieval, TrainError> {
        match self.model.lora() {
            Some(lora) => self.embedder.set_weights(&lora.merge(weights))?,
            None => self.embedder.set_weights(weights)?,
        }
        judge_retrieval(self.embedder, self.heldout)
    }
}

/// What queries find, and what follows from it.
#[derive(Clone, Debug)]
pub struct Retrieval {
    /// By name.
    pub metrics: Metrics,
    /// For each query what it found.
    pub found: Vec<Found>,
}

/// What a query found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The text with the highest cosine, the first if there are several.
    pub nearest: usize,
    /// The nearest of the texts that belong to the query.
    pub right: usize,
    /// By how much the first is nearer; 0 if they are the same.
    pub lead: f32,
}

impl AsRef<Metrics> for Retrieval {
    fn as_ref(&self) -> &Metrics {
        &self.metrics
    }
}

/// Queries whose scores exist at once.
const QUERIES_AT_ONCE: usize = 256;

/// Lets each query rank all texts by the cosine of their vectors, which `embedder` gives length 1.
///
/// # Errors
/// If a vector isn't finite.
pub fn judge_retrieval(embedder: &mut Embedder, pairs: &Pairs) -> Result<Retrieval, TrainError> {
    let mut vectors = |side: &[Passage]| -> Result<Vec<f32>, TrainError> {
        let ids: Vec<Vec<u32>> = side.iter().map(|passage| passage.ids.clone()).collect();
        Ok(embedder.embed_sequences(&ids, |_| ControlFlow::Continue(()))?.concat())
    };
    let (queries, texts) = (vectors(&pairs.queries)?, vectors(&pairs.texts)?);
    let (width, count) = (embedder.dim(), pairs.texts.len());
    let mut sums = [0.0; 5];
    let mut found = Vec::with_capacity(pairs.queries.len());
    for queries in queries.chunks(QUERIES_AT_ONCE * width) {
        let rows = queries.len() / width;
        let mut scores = vec![0.0; rows * count];
        let (a, b) = (Mat::new(queries, rows, width), Mat::new(&texts, count, width).t());
        gemm(a, b, MatMut::new(&mut scores, rows, count), Write::Overwrite);
        for scores in scores.chunks_exact(count) {
            let positives = &pairs.positives[found.len()];
            let relevant: Vec<Relevant> =
                positives.iter().map(|&text| Relevant::at(Some(rank_of(scores, text)))).collect();
            let own = [1, 5, 10].map(|k| recall(&relevant, k));
            let own = own.into_iter().chain([reciprocal_rank(&relevant), ndcg(&relevant, 10)]);
            sums.iter_mut().zip(own).for_each(|(sum, value)| *sum += value);
            let nearest = nearest(scores, 0..count);
            let right = self::nearest(scores, positives.iter().copied());
            found.push(Found { nearest, right, lead: scores[nearest] - scores[right] });
        }
    }
    let names = ["recall@1", "recall@5", "recall@10", "mrr", "ndcg@10"];
    let means = sums.map(|sum| sum / found.len().max(1) as f64);
    let mut metrics: Metrics = names.map(str::to_owned).into_iter().zip(means).collect();
    metrics.insert("examples".to_owned(), found.len() as f64);
    Ok(Retrieval { metrics, found })
}

/// The place of the highest score among some, the first if there are several.
fn nearest(scores: &[f32], places: impl Iterator<Item = usize>) -> usize {
    places.max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_data::labelled::Place;

    fn example(query: &str, positives: &[&str], negatives: &[&str]) -> PairExample {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let place = Place { file: 0, line: 1 };
        PairExample {
            query: query.to_owned(),
            positives: texts(positives),
            negatives: texts(negatives),
            place,
        }
    }

    #[test]
    fn rows_of_one_query_are_one_query() {
        let pairs = Pairs::of(&[
            example("q", &["a"], &["b", "x"]),
            example("r", &["c", "a"], &[]),
            example("q", &["b"], &[]),
        ]);
        let texts: Vec<&str> = pairs.texts.iter().map(|passage| passage.text.as_str()).collect();
        assert_eq!((pairs.queries.len(), texts), (2, vec!["a", "b", "x", "c"]));
        assert_eq!(pairs.positives, [BTreeSet::from([0, 1]), BTreeSet::from([0, 3])]);
        // What another row says is right isn't a negative.
        assert_eq!(pairs.negatives, [BTreeSet::from([2]), BTreeSet::new()]);
        assert_eq!(pairs.examples(), [(0, 0), (0, 1), (1, 0), (1, 3)]);
    }

    #[test]
    fn what_belongs_to_a_query_is_never_its_negative() {
        let pairs = Pairs::of(&[
            example("q", &["a", "b"], &["x", "y", "z"]),
            example("r", &["a"], &["b"]),
            example("s", &["c"], &["x"]),
        ]);
        let [a, b, x, y, z, c] = [0, 1, 2, 3, 4, 5];
        let check =
            |batch: &[(usize, usize)], hard, step, texts: &[usize], targets: &[i32], excluded: &[_]| {
                let expect =
                    Choices { texts: texts.to_vec(), targets: targets.to_vec(), excluded: excluded.to_vec() };
                assert_eq!(Choices::of(&pairs, batch, hard, step), expect);
            };
        // The same text for two queries is one column; the first query's other text doesn't count for it.
        check(&[(0, a), (1, a), (2, c)], 0, 0, &[a, c], &[0, 0, 1], &[]);
        check(&[(0, a), (0, b), (2, c)], 0, 0, &[a, b, c], &[0, 1, 2], &[(0, 1), (1, 0)]);
        // A negative of one query that is another one's text.
        check(&[(0, a), (1, a)], 1, 0, &[a, x, b], &[0, 0], &[(0, 2)]);
        check(&[(0, a), (2, c)], 2, 1, &[a, c, y, z, x], &[0, 1], &[]);
        check(&[(0, a)], 2, 2, &[a, z, x], &[0], &[]);
        check(&[(0, a)], 9, 0, &[a, x, y, z], &[0], &[]);
    }
}
