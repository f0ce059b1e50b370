//! Training: optimisers, schedules, recipes, checkpoints, the pretraining loop and its records.
//!
//! [`pretrain`] is the whole way from files of text to a model folder; [`recipe`] says how a run is
//! described, [`optimizer`] and [`schedule`] how weights move, [`checkpoint`] how a run survives being
//! stopped.
#![forbid(unsafe_code)]

pub mod bench;
pub mod checkpoint;
mod error;
pub mod optimizer;
pub mod recipe;
pub mod runlog;
pub mod schedule;

pub use error::TrainError;
pub use recipe::Recipe;
