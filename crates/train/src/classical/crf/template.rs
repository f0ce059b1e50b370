//! What a tagger looks at: from the tokens around a place to names of features.

use crate::classical::is_spaceless;
use serde::{Deserialize, Serialize};

/// Which attributes a token has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Template {
    /// For words: the word, its lower-case form, prefixes, suffixes and shape, and the words up to two away.
    Words,
    /// For tokens that are characters: the characters up to two away, alone and in n-grams, and their kinds. A number
    /// behind a character (`汽0 车1`) is its position in its word, as in the Weibo corpus; words are features then.
    Characters,
}

impl Template {
    /// The template for `sentences`: characters if most tokens begin with one of a script without spaces and hold no
    /// other letter.
    pub fn for_sentences(sentences: &[Vec<String>]) -> Self {
        let single = |token: &&String| {
            let mut chars = token.chars();
            chars.next().is_some_and(is_spaceless) && chars.all(|c| c.is_ascii_digit())
        };
        let tokens = sentences.iter().flatten();
        if tokens.clone().filter(single).count() * 2 > tokens.count() {
            Template::Characters
        } else {
            Template::Words
        }
    }

    /// The attributes of each token of a sentence.
    pub fn attributes(self, sentence: &[String]) -> Vec<Vec<String>> {
        match self {
            Template::Words => (0..sentence.len()).map(|place| of_word(sentence, place)).collect(),
            Template::Characters => {
                let marked: Vec<Marked> = sentence.iter().map(|token| Marked::new(token)).collect();
                let words = words(&marked);
                (0..sentence.len()).map(|place| of_character(&marked, &words, place)).collect()
            }
        }
    }
}

/// What stands for a token beyond either end.
const EDGE: &str = "\u{2}";

fn at<T>(all: &[T], place: usize, offset: isize) -> Option<&T> {
    place.checked_add_signed(offset).and_then(|place| all.get(place))
}

/// The shape of a word: `X` for a capital, `x` for another letter, `0` for a digit, runs shortened to one.
fn shape(word: &str) -> String {
    let mut shape = String::new();
    for c in word.chars() {
        let kind = match c {
            c if c.is_uppercase() => 'X',
            c if c.is_alphabetic() => 'x',
            c if c.is_numeric() => '0',
            c => c,
        };
        if !shape.ends_with(kind) {
            shape.push(kind);
        }
    }
    shape
}

fn of_word(sentence: &[String], place: usize) -> Vec<String> {
    let word = &sentence[place];
    let lower = word.to_lowercase();
    let mut out = vec!["bias".to_owned(), format!("w={word}"), format!("l={lower}")];
    out.push(format!("shape={}", shape(word)));
    let starts: Vec<usize> = lower.char_indices().map(|(start, _)| start).collect();
    for length in 1..=4.min(starts.len().saturating_sub(1)) {
        out.push(format!("prefix={}", &lower[..starts[length]]));
        out.push(format!("suffix={}", &lower[starts[starts.len() - length]..]));
    }
    let near = |offset: isize| at(sentence, place, offset).map(|word| word.to_lowercase());
    let name = |word: &Option<String>| word.clone().unwrap_or_else(|| EDGE.to_owned());
    for offset in [-2, -1, 1, 2] {
        let word = near(offset);
        out.push(format!("l[{offset}]={}", name(&word)));
        if offset.abs() == 1
            && let Some(word) = at(sentence, place, offset)
        {
            out.push(format!("shape[{offset}]={}", shape(word)));
        }
    }
    out.push(format!("l[-1,0]={} {lower}", name(&near(-1))));
    out.push(format!("l[0,1]={lower} {}", name(&near(1))));
    out
}

/// A token as a character and what is written behind it.
struct Marked<'a> {
    character: &'a str,
    mark: &'a str,
}

impl<'a> Marked<'a> {
    fn new(token: &'a str) -> Self {
        let digits = token.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        // A token of digits alone is a number: its first digit is the character.
        let first = token.chars().next().map_or(0, char::len_utf8);
        let (character, mark) = token.split_at(digits.max(first));
        Marked { character, mark }
    }
}

/// The word of each token by the marks, and how many tokens it has; none where there are no marks.
fn words(tokens: &[Marked]) -> Vec<Option<(usize, usize)>> {
    let mut words = vec![None; tokens.len()];
    let mut start = 0;
    while start < tokens.len() {
        let mut end = start + 1;
        if tokens[start].mark == "0" {
            while tokens.get(end).is_some_and(|token| token.mark.parse() == Ok(end - start)) {
                end += 1;
            }
            words[start..end].fill(Some((start, end)));
        }
        start = end;
    }
    words
}

/// What kind of character a token is.
fn kind(character: &str) -> &'static str {
    match character.chars().next() {
        None => "none",
        Some(c) if c.is_ascii_digit() || c.is_numeric() => "digit",
        Some(c) if is_spaceless(c) => "character",
        Some(c) if c.is_ascii_alphabetic() => "latin",
        Some(c) if c.is_alphabetic() => "letter",
        Some(_) => "other",
    }
}

fn of_character(tokens: &[Marked], words: &[Option<(usize, usize)>], place: usize) -> Vec<String> {
    let near = |offset: isize| at(tokens, place, offset).map_or(EDGE, |token| token.character);
    let mut out = vec!["bias".to_owned()];
    for offset in -2..=2 {
        out.push(format!("c[{offset}]={}", near(offset)));
    }
    for (first, second) in [(-2, -1), (-1, 0), (0, 1), (1, 2), (-1, 1)] {
        out.push(format!("c[{first},{second}]={}{}", near(first), near(second)));
    }
    for first in [-2, -1, 0] {
        out.push(format!("c[{first}..]={}{}{}", near(first), near(first + 1), near(first + 2)));
    }
    let kinds = [-1, 0, 1].map(|offset| at(tokens, place, offset).map_or("edge", |t| kind(t.character)));
    out.push(format!("k={}", kinds[1]));
    out.push(format!("k[-1..]={} {} {}", kinds[0], kinds[1], kinds[2]));
    let Some((start, end)) = words[place] else { return out };
    let text = |(start, end): (usize, usize)| -> String {
        tokens[start..end].iter().map(|token| token.character).collect()
    };
    let word = text((start, end));
    let position = place - start;
    out.push(format!("m={position}/{}", end - start));
    out.push(format!("m,c={position} {}", near(0)));
    out.push(format!("w={word}"));
    out.push(format!("w,m={word} {position}"));
    out.push(format!("w.first={}", tokens[start].character));
    out.push(format!("w.last={}", tokens[end - 1].character));
    let beside = |place: Option<usize>| {
        let word = place.and_then(|place| words.get(place).copied().flatten());
        word.map_or_else(|| EDGE.to_owned(), text)
    };
    let (before, after) = (beside(start.checked_sub(1)), beside(Some(end)));
    out.push(format!("w[-1]={before}"));
    out.push(format!("w[1]={after}"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn check_has(attributes: &[String], expected: &[&str]) {
        for name in expected {
            assert!(attributes.iter().any(|a| a == name), "no {name:?} in {attributes:?}");
        }
    }

    #[test]
    fn words_show_their_form_and_neighbours() {
        let attributes = Template::Words.attributes(&tokens("In McDonald 2x naïve"));
        check_has(&attributes[1], &["w=McDonald", "l=mcdonald", "shape=XxXx", "prefix=mcd", "suffix=ald"]);
        check_has(
            &attributes[1],
            &["l[-2]=\u{2}", "l[-1]=in", "shape[1]=0x", "l[2]=naïve", "l[0,1]=mcdonald 2x"],
        );
        check_has(&attributes[3], &["suffix=ïve", "prefix=naïv", "l[1]=\u{2}"]);
    }

    #[test]
    fn marks_behind_characters_make_words() {
        let attributes = Template::Characters.attributes(&tokens("汽0 车1 生0 ，0 90 1 A"));
        check_has(
            &attributes[1],
            &["c[0]=车", "c[-1,0]=汽车", "c[0..]=车生，", "m=1/2", "w=汽车", "w[1]=生"],
        );
        check_has(&attributes[0], &["c[-1]=\u{2}", "w[-1]=\u{2}", "k=character"]);
        check_has(&attributes[3], &["k=other", "k[-1..]=character other digit"]);
        // A digit with its mark, then one without.
        check_has(&attributes[4], &["c[0]=9", "m=0/1"]);
        check_has(&attributes[5], &["c[0]=1", "k[-1..]=digit digit latin"]);
        assert!(attributes[5].iter().all(|name| !name.starts_with("w=")));
    }

    #[test]
    fn the_template_follows_the_script() {
        let of = |text: &str| Template::for_sentences(&[tokens(text)]);
        assert_eq!(of("汽0 车1 A0"), Template::Characters);
        assert_eq!(of("汽 车 a"), Template::Characters);
        assert_eq!(of("汽车 生活 a"), Template::Words);
        assert_eq!(of("the car 车"), Template::Words);
    }
}
