//! How tags mark spans: the prefixes that a file uses.

use std::fmt;

/// How tags mark spans, by the prefixes before their types: **B**egin, **I**nside, **O**utside, **E**nd or
/// **L**ast, **S**ingle or **U**nit, **M**iddle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagScheme {
    /// No spans: a tag of its own for each token, such as a part of speech.
    Plain,
    /// `I` alone, and `B` only between touching spans of one type (Ramshaw and Marcus 1995).
    Iob1,
    /// `B` and `I`; also called IOB2.
    Bio,
    /// `B`, `I`, `E` and `S`.
    Bioes,
    /// `B`, `I`, `L` and `U`.
    Bilou,
    /// `B`, `M`, `E` and `S`.
    Bmes,
}

impl TagScheme {
    /// The scheme that tags are in, by the prefixes among them. One type with an `I` but never a `B` is
    /// enough for [`Self::Iob1`] where there is no other prefix.
    pub fn of<'a>(tags: impl Iterator<Item = &'a String>) -> Self {
        let mut seen = [false; 256];
        for (prefix, _) in tags.filter_map(|tag| split(tag)) {
            seen[prefix as usize] = true;
        }
        let any = |prefixes: &[u8]| prefixes.iter().any(|&prefix| seen[prefix as usize]);
        match () {
            () if any(b"M") && !any(b"I") => Self::Bmes,
            () if any(b"ES") => Self::Bioes,
            () if any(b"LU") => Self::Bilou,
            () if any(b"B") => Self::Bio,
            () if any(b"I") => Self::Iob1,
            () => Self::Plain,
        }
    }

    fn prefixes(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Iob1 | Self::Bio => "BI",
            Self::Bioes => "BIES",
            Self::Bilou => "BILU",
            Self::Bmes => "BMES",
        }
    }

    /// Whether a tag belongs to the scheme, or what is wrong with it.
    pub fn check(self, tag: &str) -> Result<(), String> {
        let is_in = |(prefix, _): (u8, &str)| self.prefixes().contains(char::from(prefix));
        if self == Self::Plain || tag == "O" || split(tag).is_some_and(is_in) {
            return Ok(());
        }
        let prefixes: Vec<String> = self.prefixes().chars().map(|prefix| format!("{prefix}-")).collect();
        Err(format!(
            "unknown prefix in tag {tag:?}: expected O, or {} before a type, as in {self}",
            prefixes.join(" ")
        ))
    }
}

impl fmt::Display for TagScheme {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Plain => "plain tags",
            Self::Iob1 => "IOB1",
            Self::Bio => "BIO",
            Self::Bioes => "BIOES",
            Self::Bilou => "BILOU",
            Self::Bmes => "BMES",
        })
    }
}

/// The prefix and the type of a tag such as `B-LOC`, with a prefix that some scheme has.
fn split(tag: &str) -> Option<(u8, &str)> {
    match tag.as_bytes() {
        [prefix, b'-', _, ..] if b"BIESLUM".contains(prefix) => Some((*prefix, &tag[2..])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_by_their_prefixes() {
        let check = |tags: &[&str], expected| {
            let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
            assert_eq!(TagScheme::of(tags.iter()), expected, "{tags:?}");
        };
        check(&["B-X", "I-X", "O"], TagScheme::Bio);
        check(&["I-X", "O"], TagScheme::Iob1);
        check(&["B-X", "E-X", "O"], TagScheme::Bioes);
        check(&["U-X", "O"], TagScheme::Bilou);
        check(&["B-X", "M-X", "E-X"], TagScheme::Bmes);
        check(&["NN", "-LRB-", "PRP$"], TagScheme::Plain);
        check(&[], TagScheme::Plain);
    }

    #[test]
    fn tags_outside_of_the_scheme() {
        let problem = TagScheme::Bio.check("X-PER").unwrap_err();
        assert_eq!(problem, "unknown prefix in tag \"X-PER\": expected O, or B- I- before a type, as in BIO");
        for tag in ["B-", "PER", "", "E-PER", "b-PER"] {
            assert!(TagScheme::Bio.check(tag).is_err(), "{tag}");
        }
        assert_eq!(TagScheme::Plain.check("X-PER"), Ok(()));
    }
}
