//! Models from before the Transformer as models of their own: learnt from labelled examples alone, kept in a folder,
//! and opened again to classify or tag.
//!
//! The folder has `model.json` (what the model is, its labels and features, and the numbers of all but networks) and for
//! networks `model.safetensors`, beside the card, the run and the report that every fine-tuned model has.

mod any;
mod file;
mod run;
mod tags;
mod texts;

pub use any::{AnyClassifier, AnyTagger};
pub use file::{baseline_task, is_baseline};
pub use run::{finetune_tags, finetune_texts};
pub use tags::{TagKind, TagModel};
pub use texts::{TextKind, TextModel, one_text};
