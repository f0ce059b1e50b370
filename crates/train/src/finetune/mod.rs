//! Fine-tuning: a pretrained model learns a task from labelled examples.
//!
//! [`fit`] is the loop, whatever the task; a task brings its [`Learner`](fit::Learner): [`classify`] for whole
//! texts, [`tag`] for their words, [`qa`] for spans that answer questions, [`embed`] for texts that belong to queries,
//! [`text`] for going on with texts. [`run`], [`run_tag`], [`run_qa`], [`run_embed`] and [`run_text`] are the whole way
//! from examples to a model folder.

mod adapt;
pub mod classify;
pub mod compare;
pub mod embed;
pub mod fit;
pub(crate) mod folder;
pub mod loss;
pub mod qa;
pub mod report;
pub mod run;
pub mod run_embed;
pub mod run_qa;
pub mod run_tag;
pub mod run_text;
pub mod settings;
mod start;
pub mod tag;
pub mod text;

pub use folder::Outcome;
