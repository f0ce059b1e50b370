//! The spans that tags mark, read leniently or strictly.
//!
//! By default tags are read as `conlleval.pl` of the CoNLL-2000 task and seqeval read them: an I- without a B- opens a
//! span, and so does a change of type. [`strict_spans`] takes only spans that are spelt as their scheme demands
//! (seqeval's `mode='strict'`).

use super::scheme::{Position, Scheme};

/// A tagged stretch of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span<'a> {
    /// Its type, such as `PER`; `_` where the tags name none.
    pub kind: &'a str,
    /// Its first token.
    pub start: usize,
    /// The token after its last.
    pub end: usize,
}

/// The spans of one sequence of tags (BIO, IOB1 or BIOES), read leniently.
///
/// A tag's first letter is its position and what follows the first hyphen its type; an empty tag counts as
/// `O`. Tags of [`Scheme::Bilou`] need [`Scheme::spans`]. (Behind tags of no scheme, `.` and `O-PER`, seqeval
/// can let a span begin in an earlier sentence; here it begins in its own.)
pub fn spans<'a>(tags: &[&'a str]) -> Vec<Span<'a>> {
    spans_of_parts(tags.iter().map(|tag| split_tag(tag)))
}

/// The position's letter and the type of a tag, as seqeval splits it.
pub(super) fn split_tag(tag: &str) -> (char, &str) {
    let mut chars = tag.chars();
    let letter = chars.next().unwrap_or('O');
    let rest = chars.as_str();
    let kind = rest.split_once('-').map_or(rest, |(_, kind)| kind);
    (letter, if kind.is_empty() { "_" } else { kind })
}

/// The spans of tags that are split into letter (of BIOES) and type.
pub(super) fn spans_of_parts<'a>(parts: impl Iterator<Item = (char, &'a str)>) -> Vec<Span<'a>> {
    let mut spans = Vec::new();
    let (mut previous, mut start, mut index) = (('O', ""), 0, 0);
    for part in parts.chain([('O', "_")]) {
        if ends_before(previous, part) {
            spans.push(Span { kind: previous.1, start, end: index });
        }
        if starts_at(previous, part) {
            start = index;
        }
        previous = part;
        index += 1;
    }
    spans
}

/// Whether a span ends between two tags.
fn ends_before((previous, previous_kind): (char, &str), (letter, kind): (char, &str)) -> bool {
    match previous {
        'E' | 'S' => true,
        'B' | 'I' if matches!(letter, 'B' | 'S' | 'O') => true,
        'O' | '.' => false,
        _ => previous_kind != kind,
    }
}

/// Whether a span starts at the second of two tags.
fn starts_at((previous, previous_kind): (char, &str), (letter, kind): (char, &str)) -> bool {
    match letter {
        'B' | 'S' => true,
        'E' | 'I' if matches!(previous, 'E' | 'S' | 'O') => true,
        'O' | '.' => false,
        _ => previous_kind != kind,
    }
}

/// The spans that are spelt exactly as `scheme` demands; all others, and tags that aren't of the scheme,
/// count as outside (seqeval raises an error on the latter). In [`Scheme::Iob1`] any spelling is a span, so
/// that it is read leniently.
pub fn strict_spans<'a>(tags: &[&'a str], scheme: Scheme) -> Vec<Span<'a>> {
    if scheme == Scheme::Iob1 {
        return spans(tags);
    }
    let mut spans = Vec::new();
    // The span that is open: its type and first token.
    let mut open: Option<(&str, usize)> = None;
    let bio = scheme == Scheme::Bio;
    for (index, tag) in tags.iter().enumerate() {
        let (position, kind) = scheme.parse(tag).unwrap_or((Position::Outside, "_"));
        let continued = open.is_some_and(|(open, _)| open == kind);
        match position {
            Position::Inside if continued => continue,
            Position::End if continued => {
                spans.extend(open.take().map(|(kind, start)| Span { kind, start, end: index + 1 }));
                continue;
            }
            _ => {}
        }
        // Nothing closes a span of BIO; the other schemes have tags that do.
        spans.extend(open.take().filter(|_| bio).map(|(kind, start)| Span { kind, start, end: index }));
        match position {
            Position::Begin => open = Some((kind, index)),
            Position::Single => spans.push(Span { kind, start: index, end: index + 1 }),
            _ => {}
        }
    }
    spans.extend(open.filter(|_| bio).map(|(kind, start)| Span { kind, start, end: tags.len() }));
    spans
}
