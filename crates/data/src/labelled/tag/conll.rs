//! CoNLL files: a token a line, blank lines between sentences.

use std::path::Path;

use super::{Parsed, Sentence, TAGS, TOKENS};
use crate::error::{DataError, Result};
use crate::labelled::{BadRow, ReadOptions, bad_row};

/// Cells of a CoNLL-U line.
const CONLLU_CELLS: usize = 10;
/// Of Weibo's form, the share of tokens that are one character and a position: the rest are emoji, which
/// its makers had as two.
const SINGLE_CHARACTERS: f64 = 0.95;
/// Of Weibo's form, the share of positions that may follow none: its makers left out a character or two.
const STRAY_POSITIONS: f64 = 0.01;

/// Which cells of a line are read.
#[derive(Clone, Copy)]
struct Cells {
    /// The token's, from 0.
    token: usize,
    /// The tag's, or `None` for the last.
    tag: Option<usize>,
    conllu: bool,
    /// Whether lines that begin with `#` are comments.
    comments: bool,
}

pub(super) fn read(file: &Path, text: &str, options: &ReadOptions) -> Result<Parsed> {
    let cells = Cells::of(text, options)?;
    let mut sentences = Vec::new();
    let mut bad = Vec::new();
    let mut block: Vec<(u64, &str)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if !line.trim().is_empty() {
            block.push((number, line));
            continue;
        }
        cells.sentence(file, &std::mem::take(&mut block), &mut sentences, &mut bad);
    }
    cells.sentence(file, &block, &mut sentences, &mut bad);
    let mut form = if cells.conllu { "CoNLL-U" } else { "CoNLL" }.to_string();
    let tokens = sentences.iter_mut().map(|sentence| &mut sentence.tokens);
    if !options.keep_positions && leave_off_positions(&mut tokens.collect::<Vec<_>>()) {
        form.push_str(" of characters with their position in the word, which is left off");
    }
    let columns = vec![
        (TOKENS.name.to_string(), format!("#{}", cells.token + 1)),
        (TAGS.name.to_string(), cells.tag.map_or("the last".to_string(), |tag| format!("#{}", tag + 1))),
    ];
    Ok((form, columns, sentences, bad))
}

impl Cells {
    fn of(text: &str, options: &ReadOptions) -> Result<Self> {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let comments = is_comment(first);
        let data = text.lines().find(|line| {
            let left_out = line.trim().is_empty() || (comments && is_comment(line));
            !left_out
        });
        let conllu = comments && data.is_some_and(|line| line.split('\t').count() == CONLLU_CELLS);
        let given = |role: &str| match options.columns.get(role) {
            None => Ok(None),
            Some(column) => match column.strip_prefix('#').and_then(|number| number.parse::<usize>().ok()) {
                Some(number @ 1..) => Ok(Some(number - 1)),
                _ => Err(DataError::BadOption(format!(
                    "column {column:?} for the {role}: the columns of a CoNLL file have no names\nhint: #1 is \
                     the first"
                ))),
            },
        };
        Ok(Self {
            token: given(TOKENS.name)?.unwrap_or(usize::from(conllu)),
            tag: given(TAGS.name)?.or(conllu.then_some(3)),
            conllu,
            comments,
        })
    }

    /// Adds the sentence of a block of lines, or all that is bad in it.
    fn sentence(
        self,
        file: &Path,
        block: &[(u64, &str)],
        sentences: &mut Vec<Sentence>,
        bad: &mut Vec<BadRow>,
    ) {
        let mut sentence = Sentence { tokens: Vec::new(), tags: Vec::new(), lines: Vec::new() };
        let bad_before = bad.len();
        for &(line, text) in block {
            let cells: Vec<&str> = if text.contains('\t') {
                text.split('\t').collect()
            } else {
                text.split_whitespace().collect()
            };
            let cells: Vec<&str> = cells.into_iter().map(str::trim).collect();
            // CoNLL-U gives contractions and left-out words beside the words themselves: 1-2, 8.1.
            let beside = self.conllu && cells[0].contains(['-', '.']);
            if (self.comments && is_comment(text)) || cells[0] == "-DOCSTART-" || beside {
                continue;
            }
            let tag = self.tag.unwrap_or(cells.len() - 1);
            let problem = match (cells.get(self.token), cells.get(tag)) {
                _ if cells.len() == 1 => format!("a token without a tag: {:?}", cells[0]),
                (Some(&token), Some(&tag)) if !token.is_empty() && !tag.is_empty() => {
                    sentence.tokens.push(token.to_string());
                    sentence.tags.push(tag.to_string());
                    sentence.lines.push(line);
                    continue;
                }
                (Some(&""), _) => "an empty token".to_string(),
                (Some(token), Some(_)) => format!("a token without a tag: {token:?}"),
                _ => format!("expected at least {} cells, got {}", self.token.max(tag) + 1, cells.len()),
            };
            bad.push(bad_row(file, line, problem));
        }
        if bad.len() == bad_before && !sentence.tokens.is_empty() {
            sentences.push(sentence);
        }
    }
}

/// Whether a line is a comment, and not a token `#` with its tag.
fn is_comment(line: &str) -> bool {
    let tag = line.split_whitespace().last().unwrap_or_default();
    line.starts_with('#') && !line.contains('\t') && tag != "O" && !tag.starts_with("B-")
}

/// Leaves off the positions behind the tokens of sentences (`科0`, `技1`, as in Weibo NER), if all have one, and nearly
/// all begin at 0 or follow the one before.
pub fn leave_off_positions(sentences: &mut [&mut Vec<String>]) -> bool {
    let mut characters: Vec<Vec<String>> = Vec::new();
    let (mut tokens, mut single, mut continued, mut stray) = (0u64, 0u64, 0u64, 0u64);
    for sentence in sentences.iter() {
        let mut without = Vec::with_capacity(sentence.len());
        let mut next = 0u64;
        for token in sentence.iter() {
            let Some((character, position)) = split_position(token, next) else { return false };
            tokens += 1;
            single += u64::from(character.chars().nth(1).is_none());
            continued += u64::from(position == next && next > 0);
            stray += u64::from(position != next && position > 0);
            next = position + 1;
            without.push(character.to_string());
        }
        characters.push(without);
    }
    let share = |count: u64| count as f64 / tokens as f64;
    if continued == 0 || share(single) < SINGLE_CHARACTERS || share(stray) > STRAY_POSITIONS {
        return false;
    }
    for (sentence, characters) in sentences.iter_mut().zip(characters) {
        **sentence = characters;
    }
    true
}

/// A token without its position, which is most likely `next` or 0.
fn split_position(token: &str, next: u64) -> Option<(&str, u64)> {
    let ends_in = |position: u64| {
        let character = token.strip_suffix(position.to_string().as_str())?;
        Some((character, position)).filter(|_| !character.is_empty())
    };
    let any = || {
        let character = token.trim_end_matches(|end: char| end.is_ascii_digit());
        let position = token[character.len()..].parse().ok().filter(|&position| position < u64::MAX)?;
        Some((character, position)).filter(|_| !character.is_empty())
    };
    ends_in(next).or_else(|| ends_in(0)).or_else(any)
}
