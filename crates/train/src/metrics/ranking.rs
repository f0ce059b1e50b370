//! How high a retriever ranks what is relevant: recall, reciprocal rank, nDCG and average precision, as
//! trec_eval computes them.
//!
//! Each function takes one query; the score of a run is the mean over its queries.

/// A document that is relevant to a query, and where it was ranked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relevant {
    /// Its rank among the results, from 1; `None` where it isn't among them.
    pub rank: Option<usize>,
    /// How relevant it is: 1 where judgements only say that it is; must be above 0.
    pub gain: f64,
}

impl Relevant {
    /// A document of gain 1.
    pub fn at(rank: Option<usize>) -> Self {
        Relevant { rank, gain: 1.0 }
    }

    fn within(&self, k: usize) -> bool {
        self.rank.is_some_and(|rank| rank <= k)
    }
}

/// The share of the relevant documents that are among the first `k` results; 0 where nothing is relevant.
pub fn recall(relevant: &[Relevant], k: usize) -> f64 {
    super::ratio(relevant.iter().filter(|document| document.within(k)).count(), relevant.len())
}

/// One over the rank of the first relevant result; 0 where there is none. Its mean over queries is the MRR.
pub fn reciprocal_rank(relevant: &[Relevant]) -> f64 {
    relevant.iter().filter_map(|document| document.rank).min().map_or(0.0, |rank| 1.0 / rank as f64)
}

/// The mean, over the relevant documents, of the precision at their ranks, 0 for those not found. Its mean
/// over queries is the MAP.
pub fn average_precision(relevant: &[Relevant]) -> f64 {
    let mut ranks: Vec<usize> = relevant.iter().filter_map(|document| document.rank).collect();
    ranks.sort_unstable();
    let sum: f64 = ranks.iter().enumerate().map(|(before, &rank)| (before + 1) as f64 / rank as f64).sum();
    sum / relevant.len().max(1) as f64
}

/// The discounted gain of the first `k` results over that of the best order (Järvelin and Kekäläinen 2002,
/// with trec_eval's linear gain and discount log₂(rank + 1)); 0 where nothing is relevant.
pub fn ndcg(relevant: &[Relevant], k: usize) -> f64 {
    let discounted = |gain: f64, rank: usize| gain / ((rank + 1) as f64).log2();
    let found: f64 = relevant
        .iter()
        .filter(|document| document.within(k))
        .filter_map(|document| document.rank.map(|rank| discounted(document.gain, rank)))
        .sum();
    let mut gains: Vec<f64> = relevant.iter().map(|document| document.gain).collect();
    gains.sort_by(|a, b| b.total_cmp(a));
    let best: f64 = gains.iter().take(k).enumerate().map(|(i, &gain)| discounted(gain, i + 1)).sum();
    if best == 0.0 { 0.0 } else { found / best }
}

/// The rank, from 1, of `scores[place]` among all scores, highest first. Equal scores count as ahead of it,
/// so that a model that scores all alike isn't flattered; so do NaNs.
///
/// # Panics
/// Where `place` lies outside.
pub fn rank_of(scores: &[f32], place: usize) -> usize {
    let own = scores[place];
    let behind = scores.iter().filter(|&&score| score < own).count();
    scores.len() - behind
}
