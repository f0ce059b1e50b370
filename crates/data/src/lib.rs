//! Read text, hold out, shard, batch, and fetch named data sets and models.
//!
//! The way of the data: [`Corpus`] streams documents out of files, [`Holdout`] keeps a part of
//! them aside, [`write_shard`] turns them into token ids on disk, [`Batches`] serves those to
//! training in an order that a seed fixes and that can be resumed. [`fetch`] gets the named data
//! sets and models, and [`KneserNey`] is the n-gram model that a neural one has to beat. No tensor anywhere:
//! a batch is plain integers.
#![deny(unsafe_code)]

mod batch;
mod catalogue;
mod convert;
mod corpus;
mod error;
mod fetch;
mod holdout;
mod hub;
pub mod labelled;
mod mapped;
mod masking;
mod ngram;
mod package;
mod packing;
mod record;
mod shard;
mod shuffle;
pub mod tagging;
mod text;

pub use batch::{Batch, BatchMode, BatchOptions, BatchState, Batches, EvalWindows};
pub use catalogue::{CATALOGUE, Client, Entry, Package};
pub use corpus::{Corpus, CorpusOptions, Document, Documents};
pub use error::{DataError, ErrorKind, Result};
pub use fetch::{FetchProgress, Fetched, fetch, file_sha256, home};
pub use holdout::{Holdout, Part, PartDocuments};
pub use hub::fetch_hub;
pub use masking::{Masked, Masking};
pub use ngram::KneserNey;
pub use package::fetch_package;
pub use shard::{Shard, ShardHeader, ShardProgress, write_shard};
