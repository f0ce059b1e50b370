//! How a model wants texts presented: which tokens stand around one text or two, and what is cut if they are too
//! long.

use crate::special::frame;
use hearth_tokenizer::Tokenizer;

/// The tokens around a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framing {
    /// In front of the first text.
    pub before: Vec<u32>,
    /// Behind each text.
    pub after: Vec<u32>,
}

/// Token ids of one text or two, ready for the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Framed {
    /// With the tokens around the texts.
    pub ids: Vec<u32>,
    /// 0 for each token of the first text and what surrounds it, 1 for each of the second.
    pub types: Vec<u32>,
    /// How many tokens had to be left out.
    pub cut: usize,
}

impl Framing {
    /// What `tokenizer.json` puts around texts, or BERT's `[CLS]` and `[SEP]` where it says nothing and has them.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let (mut before, mut after) = frame(tokenizer);
        if before.is_empty() {
            let id = |token: &str| tokenizer.id_of(token).into_iter().collect();
            (before, after) = (id("[CLS]"), id("[SEP]"));
        }
        Framing { before, after }
    }

    /// `before` first `after`, at most `limit` tokens in all; the end of the text is cut.
    pub fn single(&self, first: &[u32], limit: usize) -> Framed {
        let kept = first.len().min(limit.saturating_sub(self.before.len() + self.after.len()));
        let ids = [&self.before[..], &first[..kept], &self.after].concat();
        Framed { types: vec![0; ids.len()], ids, cut: first.len() - kept }
    }

    /// `before` first `after` second `after`, at most `limit` tokens in all; what is longer is cut first, as
    /// `transformers` does with `longest_first`.
    pub fn pair(&self, first: &[u32], second: &[u32], limit: usize) -> Framed {
        let room = limit.saturating_sub(self.before.len() + 2 * self.after.len());
        let (mut a, mut b) = (first.len(), second.len());
        if a + b > room {
            let half = room / 2;
            // Each gets half, or what the other leaves; of an odd number the second has one less.
            (a, b) = match (a <= room - half, b <= half) {
                (true, _) => (a, room - a),
                (_, true) => (room - b, b),
                _ => (room - half, half),
            };
        }
        let cut = first.len() + second.len() - a - b;
        let mut ids = [&self.before[..], &first[..a], &self.after].concat();
        let mut types = vec![0; ids.len()];
        ids.extend_from_slice(&second[..b]);
        ids.extend_from_slice(&self.after);
        types.resize(ids.len(), 1);
        Framed { ids, types, cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_text_is_cut_first() {
        let framing = Framing { before: vec![1], after: vec![2] };
        let (long, short): (Vec<u32>, Vec<u32>) = ((10..20).collect(), (30..33).collect());
        for (a, b, limit, expect) in [
            (&long, &short, 16, (vec![1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 2, 30, 31, 32, 2], 0)),
            (&long, &short, 10, (vec![1, 10, 11, 12, 13, 2, 30, 31, 32, 2], 6)),
            (&short, &long, 10, (vec![1, 30, 31, 32, 2, 10, 11, 12, 13, 2], 6)),
            (&long, &long, 10, (vec![1, 10, 11, 12, 13, 2, 10, 11, 12, 2], 13)),
        ] {
            let framed = framing.pair(a, b, limit);
            assert_eq!((framed.ids, framed.cut), expect);
            assert_eq!(framed.types.len(), expect.0.len());
        }
        let framed = framing.single(&long, 5);
        assert_eq!((framed.ids, framed.cut), (vec![1, 10, 11, 12, 2], 7));
    }
}
