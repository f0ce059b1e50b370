//! Fine-tuning: a pretrained model learns a task from labelled examples.
//!
//! [`fit`] is the loop, whatever the task; a task brings its [`Learner`](fit::Learner): [`classify`] for whole
//! texts. [`run`] is the whole way from labelled texts to a model folder.

pub mod classify;
pub mod fit;
pub mod loss;
pub mod report;
pub mod run;
pub mod settings;
