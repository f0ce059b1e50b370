//! Keeps special tokens that messages spell out from being taken for the template's.

use super::{Piece, Rendered};
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

/// The spellings of a tokenizer's special tokens.
#[derive(Debug)]
pub(super) struct Specials {
    /// The longest first.
    spellings: Vec<String>,
    /// What they begin with.
    first: HashSet<char>,
    /// What they begin or end with. A message without any of these has no part in a special token,
    /// except the inside of one whose two ends the template wrote around it.
    edges: Vec<char>,
}

impl Specials {
    pub(super) fn new(mut spellings: Vec<String>) -> Self {
        spellings.retain(|spelling| !spelling.is_empty());
        spellings.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
        let first: HashSet<char> = spellings.iter().filter_map(|spelling| spelling.chars().next()).collect();
        let last = spellings.iter().filter_map(|spelling| spelling.chars().next_back());
        let edges: BTreeSet<char> = first.iter().copied().chain(last).collect();
        Self { spellings, first, edges: edges.into_iter().collect() }
    }

    /// Whether `text` could have a part in a special token.
    pub(super) fn touches(&self, text: &str) -> bool {
        text.contains(self.edges.as_slice())
    }

    /// Whether a text within `json` spells a special token out.
    pub(super) fn is_in(&self, json: &serde_json::Value) -> bool {
        use serde_json::Value;
        match json {
            Value::String(text) => !self.find(text).is_empty(),
            Value::Array(items) => items.iter().any(|item| self.is_in(item)),
            Value::Object(map) => {
                map.iter().any(|(key, value)| !self.find(key).is_empty() || self.is_in(value))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// Where special tokens stand: the earliest first, the longest of those that begin together.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut end = 0;
        for (at, character) in text.char_indices() {
            if at < end || !self.first.contains(&character) {
                continue;
            }
            let rest = &text[at..];
            if let Some(spelling) = self.spellings.iter().find(|spelling| rest.starts_with(spelling.as_str()))
            {
                end = at + spelling.len();
                found.push(at..end);
            }
        }
        found
    }

    /// Whether two texts have the same special tokens in the same order.
    pub(super) fn same_in(&self, one: &str, other: &str) -> bool {
        let of =
            |text: &str| self.find(text).into_iter().map(|range| text[range].to_owned()).collect::<Vec<_>>();
        of(one) == of(other)
    }

    /// Cuts a rendering at the special tokens and turns the stand-ins back.
    pub(super) fn pieces(&self, text: &str, mask: &Mask) -> Rendered {
        let found = self.find(text);
        let look_alikes = self.find(&mask.undo(text)).len() != found.len();
        let mut pieces = Vec::with_capacity(2 * found.len() + 1);
        let push_text = |pieces: &mut Vec<Piece>, range: Range<usize>| {
            if !range.is_empty() {
                pieces.push(Piece::Text(mask.undo(&text[range])));
            }
        };
        let mut at = 0;
        for range in found {
            push_text(&mut pieces, at..range.start);
            pieces.push(Piece::Special(text[range.clone()].to_owned()));
            at = range.end;
        }
        push_text(&mut pieces, at..text.len());
        Rendered { pieces, look_alikes }
    }
}

/// Private-use characters that stand in for others.
pub(super) struct Mask {
    pairs: Vec<(char, char)>,
}

impl Mask {
    /// No stand-ins.
    pub(super) fn none() -> Self {
        Self { pairs: Vec::new() }
    }

    /// Stand-ins for the edges of special tokens that occur in none of `texts`; nothing if they
    /// occupy all of the two private planes.
    pub(super) fn new<'t>(specials: &Specials, texts: impl Iterator<Item = &'t str>) -> Option<Self> {
        let is_private = |character: &char| ('\u{F0000}'..).contains(character);
        let taken: HashSet<char> = texts.flat_map(str::chars).filter(is_private).collect();
        let free = ('\u{F0000}'..='\u{FFFFD}').chain('\u{100000}'..='\u{10FFFD}');
        let mut free = free.filter(|character| !taken.contains(character));
        let pairs = specials.edges.iter().map(|&edge| Some((edge, free.next()?)));
        Some(Self { pairs: pairs.collect::<Option<_>>()? })
    }

    fn swap(&self, character: char) -> char {
        let pair = self.pairs.iter().find(|(edge, _)| *edge == character);
        pair.map_or(character, |&(_, stand_in)| stand_in)
    }

    /// All edges replaced.
    pub(super) fn all(&self, text: &str) -> String {
        text.chars().map(|character| self.swap(character)).collect()
    }

    /// Only the first characters of whole spellings replaced.
    pub(super) fn spellings(&self, text: &str, specials: &Specials) -> String {
        let starts: HashSet<usize> = specials.find(text).into_iter().map(|range| range.start).collect();
        let swap = |(at, character)| if starts.contains(&at) { self.swap(character) } else { character };
        text.char_indices().map(swap).collect()
    }

    /// The stand-ins turned back.
    pub(super) fn undo(&self, text: &str) -> String {
        let back = |character: char| {
            let pair = self.pairs.iter().find(|(_, stand_in)| *stand_in == character);
            pair.map_or(character, |&(edge, _)| edge)
        };
        match self.pairs.is_empty() {
            true => text.to_owned(),
            false => text.chars().map(back).collect(),
        }
    }
}
