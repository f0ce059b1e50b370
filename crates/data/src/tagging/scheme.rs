//! How tags spell spans: the schemes, which one a data set is in, what breaks it, and the way from one to
//! another.
//!
//! All write a letter for the token's position in its span, a hyphen, and the span's type (`B-PER`), and
//! `O` outside of spans (Ramshaw and Marcus 1995; Sang and Veenstra 1999; Ratinov and Roth 2009).

use super::spans::{Span, spans_of_parts, split_tag};
use std::fmt;

/// A way to spell spans as tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// BIO, also IOB2: B opens each span, I continues it.
    Bio,
    /// IOB1, as CoNLL-2003 was published: I throughout; B only opens a span right after one of its type.
    Iob1,
    /// BIOES, also IOBES: B, I, E for the last token, S for a span of one token.
    Bioes,
    /// BILOU: BIOES with L for E and U for S.
    Bilou,
    /// BMES, as Chinese corpora write it: BIOES with M for I.
    Bmes,
}

/// Where a token stands in its span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// In no span.
    Outside,
    /// The first token (of several, in the schemes that tell).
    Begin,
    /// A later token (neither first nor last, in the schemes that tell).
    Inside,
    /// The last of several tokens.
    End,
    /// The only token.
    Single,
}

/// A tag that breaks its scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The token.
    pub index: usize,
    /// Its tag, as found.
    pub tag: String,
    /// What is wrong, in words, such as "continues no PER span".
    pub problem: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "tag {} ({:?}) {}", self.index + 1, self.tag, self.problem)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Scheme::Bio => "BIO",
            Scheme::Iob1 => "IOB1",
            Scheme::Bioes => "BIOES",
            Scheme::Bilou => "BILOU",
            Scheme::Bmes => "BMES",
        })
    }
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Scheme; 5] = [Scheme::Bio, Scheme::Iob1, Scheme::Bioes, Scheme::Bilou, Scheme::Bmes];

    /// The letters of this scheme.
    fn letters(self) -> &'static [(char, Position)] {
        use Position::{Begin, End, Inside, Single};
        match self {
            Scheme::Bio | Scheme::Iob1 => &[('B', Begin), ('I', Inside)],
            Scheme::Bioes => &[('B', Begin), ('I', Inside), ('E', End), ('S', Single)],
            Scheme::Bilou => &[('B', Begin), ('I', Inside), ('L', End), ('U', Single)],
            Scheme::Bmes => &[('B', Begin), ('M', Inside), ('E', End), ('S', Single)],
        }
    }

    /// The position and type that `tag` spells; type `_` for a lone letter. `None` where it isn't a tag of
    /// this scheme.
    pub fn parse(self, tag: &str) -> Option<(Position, &str)> {
        if tag == "O" {
            return Some((Position::Outside, "_"));
        }
        let mut chars = tag.chars();
        let letter = chars.next()?;
        let position = self.letters().iter().find(|(known, _)| *known == letter)?.1;
        match chars.as_str() {
            "" => Some((position, "_")),
            rest => rest.strip_prefix('-').filter(|kind| !kind.is_empty()).map(|kind| (position, kind)),
        }
    }

    /// The tag for a position in a span of type `kind`.
    fn spell(self, position: Position, kind: &str) -> String {
        let letter =
            self.letters().iter().find(|(_, known)| *known == position).map_or('O', |(letter, _)| *letter);
        match (letter, kind) {
            ('O', _) => "O".to_owned(),
            (letter, "_") => letter.to_string(),
            (letter, kind) => format!("{letter}-{kind}"),
        }
    }

    /// The spans of one sequence of tags of this scheme, read leniently (see [`super::spans()`]).
    pub fn spans<'a>(self, tags: &[&'a str]) -> Vec<Span<'a>> {
        spans_of_parts(tags.iter().map(|tag| {
            let (letter, kind) = split_tag(tag);
            let position = self.letters().iter().find(|(known, _)| *known == letter);
            (position.map_or(letter, |(_, position)| position.letter()), kind)
        }))
    }

    /// The tags of `len` tokens that spell `spans`, which must lie apart and in order.
    ///
    /// # Panics
    /// Where a span is empty or overlaps another or the end.
    pub fn tags(self, spans: &[Span], len: usize) -> Vec<String> {
        let mut tags = Vec::with_capacity(len);
        let mut previous: Option<&Span> = None;
        for span in spans {
            assert!(tags.len() <= span.start && span.start < span.end && span.end <= len, "spans lie apart");
            tags.resize(span.start, "O".to_owned());
            let touches = previous.is_some_and(|p| p.end == span.start && p.kind == span.kind);
            tags.extend(
                (span.start..span.end)
                    .map(|index| self.spell(self.position(span, index, touches), span.kind)),
            );
            previous = Some(span);
        }
        tags.resize(len, "O".to_owned());
        tags
    }

    /// How this scheme sees token `index` of `span`; `touches` says that a span of the same type ends right
    /// before it.
    fn position(self, span: &Span, index: usize, touches: bool) -> Position {
        let (first, last) = (index == span.start, index + 1 == span.end);
        match self {
            Scheme::Bio if first => Position::Begin,
            Scheme::Iob1 if first && touches => Position::Begin,
            Scheme::Bio | Scheme::Iob1 => Position::Inside,
            _ if first && last => Position::Single,
            _ if first => Position::Begin,
            _ if last => Position::End,
            _ => Position::Inside,
        }
    }

    /// The tags of another scheme for the same spans, as they are read leniently; tags that break this
    /// scheme come out mended.
    pub fn convert(self, tags: &[&str], to: Scheme) -> Vec<String> {
        to.tags(&self.spans(tags), tags.len())
    }

    /// The tags of one sequence that break this scheme, in order.
    pub fn violations(self, tags: &[&str]) -> Vec<Violation> {
        let mut found: Vec<Violation> = Vec::new();
        let mut report = |index: usize, problem: String| {
            found.push(Violation { index, tag: tags[index].to_owned(), problem });
        };
        let closes = self.letters().len() == 4;
        // The span that the token before leaves open.
        let mut open: Option<&str> = None;
        for (index, tag) in tags.iter().enumerate() {
            let Some((position, kind)) = self.parse(tag) else {
                report(index, format!("is no tag of {self}"));
                open = None;
                continue;
            };
            let continues = matches!(position, Position::Inside | Position::End);
            match open {
                Some(open) if closes && !(continues && open == kind) => {
                    report(index - 1, format!("leaves its {open} span open"));
                }
                _ => {}
            }
            match (self, position) {
                (Scheme::Iob1, Position::Begin) if open != Some(kind) => {
                    report(index, format!("follows no {kind} span, which is when {self} writes B"));
                }
                (Scheme::Iob1, _) => {}
                _ if continues && open != Some(kind) => report(index, format!("continues no {kind} span")),
                _ => {}
            }
            open = matches!(position, Position::Begin | Position::Inside).then_some(kind);
        }
        if let (Some(open), true) = (open, closes) {
            report(tags.len() - 1, format!("leaves its {open} span open"));
        }
        found
    }

    /// The scheme of the tags of a file, by the prefixes among them; `None` for plain tags, a tag of its own for each
    /// token, such as a part of speech. One type with an `I` but never a `B` is enough for [`Self::Iob1`] where there
    /// is no other prefix.
    ///
    /// It asks what a file means to be in, so that [`Self::check`] can name the tags that are mistakes;
    /// [`Self::detect`] asks which scheme is broken least.
    pub fn of_prefixes<'a>(tags: impl IntoIterator<Item = &'a str>) -> Option<Scheme> {
        let mut seen = [false; 256];
        for tag in tags {
            if let [letter, b'-', _, ..] = tag.as_bytes() {
                seen[usize::from(*letter)] = true;
            }
        }
        let any = |letters: &[u8]| letters.iter().any(|&letter| seen[usize::from(letter)]);
        match () {
            () if any(b"M") && !any(b"I") => Some(Scheme::Bmes),
            () if any(b"ES") => Some(Scheme::Bioes),
            () if any(b"LU") => Some(Scheme::Bilou),
            () if any(b"B") => Some(Scheme::Bio),
            () if any(b"I") => Some(Scheme::Iob1),
            () => None,
        }
    }

    /// Whether `tag` is `O` or a letter of this scheme before a type.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(self, tag: &str) -> Result<(), String> {
        if tag == "O" || (tag.contains('-') && self.parse(tag).is_some()) {
            return Ok(());
        }
        let prefixes: Vec<String> = self.letters().iter().map(|(letter, _)| format!("{letter}-")).collect();
        let prefixes = prefixes.join(" ");
        Err(format!("unknown prefix in tag {tag:?}: expected O, or {prefixes} before a type, as in {self}"))
    }

    /// The scheme that most of the tags of all sequences are in: the one that the fewest of them break,
    /// the first of [`Scheme::ALL`] where several are equal.
    ///
    /// Tags that are `O` or BIO in all schemes say nothing, so that sequences without spans are BIO.
    pub fn detect<'a>(sequences: impl IntoIterator<Item = &'a [&'a str]> + Clone) -> Scheme {
        let broken = |scheme: &Scheme| -> usize {
            sequences.clone().into_iter().map(|tags| scheme.violations(tags).len()).sum()
        };
        Scheme::ALL.into_iter().min_by_key(broken).unwrap_or(Scheme::Bio)
    }
}

impl Position {
    /// This position's letter in BIOES.
    fn letter(self) -> char {
        match self {
            Position::Outside => 'O',
            Position::Begin => 'B',
            Position::Inside => 'I',
            Position::End => 'E',
            Position::Single => 'S',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_by_their_prefixes() {
        let check = |tags: &[&str], expected| {
            assert_eq!(Scheme::of_prefixes(tags.iter().copied()), expected, "{tags:?}");
        };
        check(&["B-X", "I-X", "O"], Some(Scheme::Bio));
        check(&["I-X", "O"], Some(Scheme::Iob1));
        check(&["B-X", "E-X", "O"], Some(Scheme::Bioes));
        check(&["U-X", "O"], Some(Scheme::Bilou));
        check(&["B-X", "M-X", "E-X"], Some(Scheme::Bmes));
        check(&["NN", "-LRB-", "PRP$"], None);
        check(&[], None);
    }

    #[test]
    fn tags_outside_of_the_scheme() {
        let problem = Scheme::Bio.check("X-PER").unwrap_err();
        assert_eq!(problem, "unknown prefix in tag \"X-PER\": expected O, or B- I- before a type, as in BIO");
        for tag in ["B-", "PER", "", "B", "E-PER", "b-PER"] {
            assert!(Scheme::Bio.check(tag).is_err(), "{tag}");
        }
    }
}
