//! Training: optimisers, schedules, recipes, checkpoints, the pretraining loop and its records.
//!
//! [`pretrain`] is the whole way from files of text to a model folder; [`recipe`] says how a run is
//! described, [`optimizer`] and [`schedule`] how weights move, [`checkpoint`] how a run survives being
//! stopped, [`classical`] what came before neural models, [`baseline`] those as models of their own.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod bench;
mod card;
pub mod checkpoint;
pub mod classical;
pub mod curves;
mod error;
pub mod evaluate;
pub mod finetune;
mod folder;
pub mod metrics;
mod network;
pub mod neural;
pub mod optimizer;
pub mod power;
pub mod prepare;
pub mod pretrain;
pub mod recipe;
pub mod runlog;
pub mod schedule;
mod sizes;
mod trainer;

pub use error::TrainError;
pub use recipe::Recipe;
