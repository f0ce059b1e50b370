//! Precision, recall and F1 of tagged spans, as seqeval computes them and conlleval before it: a span
//! counts where its type and both ends are right.
//!
//! How tags become spans is [`hearth_data::tagging`]'s.

use super::{Counts, PrecisionRecall, macro_average};
use hearth_data::tagging::{Scheme, Span, spans, strict_spans};
use std::collections::{BTreeMap, HashSet};

/// Counts of spans by type; they add up over sentences.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanCounts {
    /// Counts of each type that is in the gold or predicted spans, in the order of their names.
    pub per_type: BTreeMap<String, Counts>,
}

impl SpanCounts {
    /// Adds the spans of one sentence.
    pub fn add(&mut self, gold: &[Span], predicted: &[Span]) {
        let known: HashSet<&Span> = gold.iter().collect();
        for span in gold {
            self.of_type(span.kind).gold += 1;
        }
        for span in predicted {
            let counts = self.of_type(span.kind);
            counts.predicted += 1;
            counts.correct += usize::from(known.contains(span));
        }
    }

    fn of_type(&mut self, kind: &str) -> &mut Counts {
        if !self.per_type.contains_key(kind) {
            self.per_type.insert(kind.to_owned(), Counts::default());
        }
        self.per_type.get_mut(kind).expect("inserted above")
    }

    /// The counts of all types together.
    pub fn total(&self) -> Counts {
        self.per_type.values().copied().sum()
    }

    /// The scores over all spans: what "span F1" means without more words.
    pub fn micro_average(&self) -> PrecisionRecall {
        self.total().scores()
    }

    /// The unweighted mean over the types; 0 without any (seqeval's NaN).
    pub fn macro_average(&self) -> PrecisionRecall {
        macro_average(&self.per_type.values().map(Counts::scores).collect::<Vec<_>>())
    }
}

/// The counts of `predicted` tags against `gold` ones, a sequence a sentence, read leniently.
///
/// # Panics
/// Where the two differ in shape.
pub fn span_counts(gold: &[Vec<&str>], predicted: &[Vec<&str>]) -> SpanCounts {
    count(gold, predicted, spans)
}

/// The counts of `predicted` tags against `gold` ones, a sequence a sentence, by [`strict_spans`].
///
/// # Panics
/// Where the two differ in shape.
pub fn strict_span_counts(gold: &[Vec<&str>], predicted: &[Vec<&str>], scheme: Scheme) -> SpanCounts {
    count(gold, predicted, |tags| strict_spans(tags, scheme))
}

fn count<'a>(
    gold: &[Vec<&'a str>],
    predicted: &[Vec<&'a str>],
    spans: impl Fn(&[&'a str]) -> Vec<Span<'a>>,
) -> SpanCounts {
    assert_eq!(gold.len(), predicted.len(), "predicted tags for each sentence");
    let mut counts = SpanCounts::default();
    for (gold, predicted) in gold.iter().zip(predicted) {
        assert_eq!(gold.len(), predicted.len(), "a predicted tag for each token");
        counts.add(&spans(gold), &spans(predicted));
    }
    counts
}
