//! Texts as sparse rows of n-grams.
//!
//! A text is put in lower case and cut into stretches. Where words have spaces between them, n-grams are of words
//! (Unicode Standard Annex 29), without what lies between them; a stretch of a script without spaces
//! ([`is_spaceless`]) gives n-grams of its characters. A column is an n-gram of the training texts.

use super::sparse::SparseRows;
use super::{ClassicalError, Vocabulary, check_length, checked_serde, is_spaceless};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use unicode_segmentation::UnicodeSegmentation;

/// What the value of an n-gram in a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// How often it occurs.
    Counts,
    /// How often it occurs, times `1 + ln((1 + N) / (1 + df))` for `df` of `N` training texts that have it, the row
    /// then scaled to length 1. scikit-learn's `TfidfVectorizer` does the same; the idea is of Spärck Jones (1972).
    TfIdf,
}

/// Which n-grams are features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NgramSettings {
    /// The longest n-gram of words; 0 for none.
    pub words: usize,
    /// The longest n-gram of characters, for scripts without spaces; 0 for none.
    pub characters: usize,
    /// An n-gram in fewer texts than this is left out.
    pub min_texts: usize,
    /// At most so many are kept: those in most texts, then the alphabetically first.
    pub max_features: usize,
    /// What their values are.
    pub weighting: Weighting,
}

impl Default for NgramSettings {
    fn default() -> Self {
        NgramSettings {
            words: 2,
            characters: 3,
            min_texts: 2,
            max_features: 100_000,
            weighting: Weighting::TfIdf,
        }
    }
}

/// Turns texts into rows of the n-grams that it has learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct NgramVectorizer {
    settings: NgramSettings,
    vocabulary: Vocabulary,
    /// The weight of each column.
    idf: Vec<f32>,
}

checked_serde!(NgramVectorizer);

impl NgramVectorizer {
    /// Learns the n-grams of `texts`.
    ///
    /// # Errors
    /// If no n-gram is in enough texts.
    pub fn fit(texts: &[&str], settings: &NgramSettings) -> Result<Self, ClassicalError> {
        // In how many texts each n-gram is, and the last of these, counted from 1.
        let mut seen: HashMap<String, (usize, usize)> = HashMap::new();
        for (number, text) in texts.iter().enumerate() {
            each_ngram(text, settings, |ngram| match seen.get_mut(ngram) {
                None => {
                    seen.insert(ngram.to_owned(), (1, number + 1));
                }
                Some((count, last)) if *last != number + 1 => (*count, *last) = (*count + 1, number + 1),
                Some(_) => {}
            });
        }
        let mut kept: Vec<(String, usize)> = seen
            .into_iter()
            .filter(|(_, (count, _))| *count >= settings.min_texts)
            .map(|(ngram, (count, _))| (ngram, count))
            .collect();
        kept.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        kept.truncate(settings.max_features);
        if kept.is_empty() {
            return Err(ClassicalError::Empty {
                what: "no n-gram occurs in enough texts\nhint: give more text, or min_texts = 1",
            });
        }
        kept.sort_unstable();
        let n = texts.len() as f64;
        let idf = kept.iter().map(|(_, df)| match settings.weighting {
            Weighting::Counts => 1.0,
            Weighting::TfIdf => (1.0 + ((1.0 + n) / (1.0 + *df as f64)).ln()) as f32,
        });
        let idf = idf.collect();
        let vocabulary = Vocabulary::new(kept.into_iter().map(|(ngram, _)| ngram).collect());
        Ok(NgramVectorizer { settings: settings.clone(), vocabulary, idf })
    }

    /// The rows of `texts`: one a text, one column an n-gram. N-grams that weren't learnt are left out.
    pub fn transform(&self, texts: &[&str]) -> SparseRows {
        let mut rows = SparseRows::new(self.vocabulary.len());
        let mut entries = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            entries.clear();
            each_ngram(text, &self.settings, |ngram| {
                if let Some(column) = self.vocabulary.id(ngram) {
                    entries.push((column as u32, 1.0));
                }
            });
            rows.push(&mut entries);
            if self.settings.weighting == Weighting::TfIdf {
                self.weigh(rows.row_mut(number));
            }
        }
        rows
    }

    fn weigh(&self, row: &mut [(u32, f32)]) {
        let mut square = 0.0;
        for (column, value) in row.iter_mut() {
            *value *= self.idf[*column as usize];
            square += f64::from(*value) * f64::from(*value);
        }
        for (_, value) in row {
            *value = (f64::from(*value) / square.sqrt()) as f32;
        }
    }

    /// The n-grams that it has learnt; the number of each is its column.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn check(&self) -> Result<(), ClassicalError> {
        check_length("weights, one an n-gram", self.vocabulary.len(), self.idf.len())
    }
}

/// Calls `found` with each n-gram of `text`, as often as it occurs. Words of an n-gram have one space between them.
fn each_ngram(text: &str, settings: &NgramSettings, mut found: impl FnMut(&str)) {
    let text = text.to_lowercase();
    let mut rest = text.as_str();
    let mut ngram = String::new();
    while let Some(first) = rest.chars().next() {
        let spaceless = is_spaceless(first);
        let end = rest.find(|c| is_spaceless(c) != spaceless).unwrap_or(rest.len());
        let (stretch, after) = rest.split_at(end);
        rest = after;
        let (parts, longest, between): (Vec<&str>, _, _) = if spaceless {
            let starts = stretch.char_indices();
            (starts.map(|(i, c)| &stretch[i..i + c.len_utf8()]).collect(), settings.characters, "")
        } else {
            (stretch.unicode_words().collect(), settings.words, " ")
        };
        for start in 0..parts.len() {
            ngram.clear();
            for part in parts[start..].iter().take(longest) {
                if !ngram.is_empty() {
                    ngram.push_str(between);
                }
                ngram.push_str(part);
                found(&ngram);
            }
        }
    }
}

/// The words of a text in lower case, and the characters of scripts without spaces, in their order.
pub(crate) fn words(text: &str) -> Vec<String> {
    let settings = NgramSettings { words: 1, characters: 1, ..NgramSettings::default() };
    let mut words = Vec::new();
    each_ngram(text, &settings, |word| words.push(word.to_owned()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ngrams(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        each_ngram(text, &NgramSettings::default(), |ngram| all.push(ngram.to_owned()));
        all
    }

    #[test]
    fn words_and_characters_are_told_apart() {
        assert_eq!(ngrams("Don't STOP, naïve."), ["don't", "don't stop", "stop", "stop naïve", "naïve"]);
        assert_eq!(ngrams("中文字A b"), ["中", "中文", "中文字", "文", "文字", "字", "a", "a b", "b"]);
        assert_eq!(ngrams("ไทย"), ["ไ", "ไท", "ไทย", "ท", "ทย", "ย"]);
        assert!(ngrams(" …!？ ").is_empty());
    }

    #[test]
    fn the_commonest_are_kept() {
        let settings = NgramSettings { words: 1, min_texts: 1, max_features: 2, ..NgramSettings::default() };
        let texts = ["c c c a", "b a", "b d"];
        let vectorizer = NgramVectorizer::fit(&texts, &settings).expect("enough text");
        assert_eq!(vectorizer.vocabulary().names(), ["a", "b"]);
        let too_many = NgramSettings { min_texts: 3, ..settings };
        assert!(matches!(NgramVectorizer::fit(&texts, &too_many), Err(ClassicalError::Empty { .. })));
    }

    #[test]
    fn counts_are_counts() {
        let settings =
            NgramSettings { words: 1, weighting: Weighting::Counts, min_texts: 1, ..Default::default() };
        let rows = NgramVectorizer::fit(&["a b a", "c"], &settings)
            .expect("enough text")
            .transform(&["b a x a a", ""]);
        assert_eq!((rows.len(), rows.n_columns()), (2, 3));
        assert_eq!((rows.row(0), rows.row(1)), (&[(0, 3.0), (1, 1.0)][..], &[][..]));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let vectorizer =
            NgramVectorizer::fit(&["a b", "a b"], &NgramSettings::default()).expect("enough text");
        let text = serde_json::to_string(&vectorizer).expect("plain data");
        assert_eq!(serde_json::from_str::<NgramVectorizer>(&text).expect("what was written"), vectorizer);
        for damaged in [text.replace(r#""a b","#, ""), text.replace(r#"["a","#, r#"["z","#)] {
            assert_ne!(damaged, text);
            assert!(serde_json::from_str::<NgramVectorizer>(&damaged).is_err(), "{damaged}");
        }
    }
}
