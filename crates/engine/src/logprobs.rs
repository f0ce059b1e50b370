//! How likely the model found each token that was generated, and what it would rather have said.

use crate::score::log_sum_exp;
use std::cmp::Ordering;

/// A token and its log-probability in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logprob {
    /// Its id.
    pub token: u32,
    /// `l[token] - ln Σ eˡ` of the model's own logits l.
    pub logprob: f64,
}

/// A generated token beside the likeliest ones.
///
/// The distribution is the model's, before biases, penalties, constraints, temperature and filters, as
/// OpenAI's API defines `logprobs`.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The token that was generated.
    pub chosen: Logprob,
    /// The likeliest tokens, the likeliest first; of equal ones the lower id. The one that was generated
    /// needn't be among them.
    pub top: Vec<Logprob>,
}

impl TokenLogprobs {
    /// Of `chosen` and the `count` likeliest of the first `entries` tokens. `logits` is a row of V values.
    pub(crate) fn of(logits: &[f32], chosen: u32, count: usize, entries: usize) -> Self {
        let total = log_sum_exp(logits);
        let of = |token: u32| Logprob { token, logprob: f64::from(logits[token as usize]) - total };
        let top = likeliest(&logits[..entries], count);
        TokenLogprobs { chosen: of(chosen), top: top.into_iter().map(of).collect() }
    }
}

/// The indices of the `count` largest values, the largest first; of equal ones the lower index.
pub(crate) fn likeliest(values: &[f32], count: usize) -> Vec<u32> {
    let order =
        |a: &u32, b: &u32| -> Ordering { values[*b as usize].total_cmp(&values[*a as usize]).then(a.cmp(b)) };
    let mut ids: Vec<u32> = (0..values.len() as u32).collect();
    if count < ids.len() {
        ids.select_nth_unstable_by(count, order);
        ids.truncate(count);
    }
    ids.sort_unstable_by(order);
    ids
}
