//! Train, load, encode and decode tokenizers behind one type.
//!
//! [`Tokenizer`] wraps the Hugging Face `tokenizers` pipeline, which does the encoding, and adds
//! what a language model needs around it: raw token bytes, streaming decode, special-token roles,
//! a fingerprint that ties data to its tokenizer, and atomic saving. [`BpeTrainer`] trains a
//! byte-level vocabulary in bounded memory; [`train_chars`] makes a one-token-a-character one.
//!
//! ```
//! use hearth_tokenizer::{BpeTrainer, PreTokenizer};
//!
//! let trainer = BpeTrainer::new(300, PreTokenizer::Gpt2);
//! let texts = ["the cat sat on the mat", "the hat"].map(|t| Ok::<_, std::io::Error>(t.to_string()));
//! let tokenizer = trainer.train(texts.into_iter(), |_| {})?;
//! let ids = tokenizer.encode("the cat")?;
//! assert_eq!(tokenizer.decode(&ids, true)?, "the cat");
//! # Ok::<(), hearth_tokenizer::TokenizerError>(())
//! ```
#![forbid(unsafe_code)]

mod alphabet;
mod chars;
mod charsmap;
mod count;
mod cut;
mod error;
mod gguf;
mod json;
mod limits;
mod load;
mod merge;
mod offsets;
mod pretokenize;
mod replace;
mod stream;
mod threads;
mod tokenizer;
mod train;
mod vocab;
mod words;

pub use error::{Result, TokenizerError};
pub use gguf::GgufVocab;
pub use json::BpeParts;
pub use pretokenize::PreTokenizer;
pub use replace::{publish_permissions, replace_file};
pub use stream::DecodeStream;
pub use threads::{set_threads, threads};
pub use tokenizer::Tokenizer;
pub use train::{BpeTrainer, ENCODER_TOKENS, END_OF_TEXT, TrainProgress, train_chars};
pub use words::is_spaceless;
