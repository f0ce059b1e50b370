//! Configurations, architectures, weight files and the two executors. Speaks token ids, never text.
//!
//! An architecture is described once, in [`decoder`] or [`encoder`], as operations on an
//! [`executor::Executor`].
//! [`tape`] runs the description with automatic differentiation, for training; [`runner`] runs a
//! recorded plan of it with static buffers and a cache, for inference.
//!
//! Shape letters: B batch, T time, N = B·T rows, C hidden size, V vocabulary, H heads, D head size.
#![forbid(unsafe_code)]

mod adapter;
pub mod config;
pub mod decoder;
pub mod encoder;
mod encoder_runner;
mod error;
pub mod executor;
mod folder;
mod folder_encoder;
pub mod gguf;
pub mod hf;
mod hf_encoder;
mod layers;
mod lora;
mod masked;
mod plan;
mod rope_scaling;
pub mod runner;
pub mod source;
pub mod tape;
pub mod task;
mod task_folder;
mod task_runner;
mod updates;
pub mod weights;

pub use adapter::{Adapter, AdapterOf, save_adapter};
pub use config::{DecoderConfig, Family};
pub use decoder::Decoder;
pub use encoder::{Encoder, EncoderConfig, EncoderFamily, EncoderIds, EuroBert};
pub use encoder_runner::EncoderRunner;
pub use error::ModelError;
pub use folder::FolderModel;
pub use folder_encoder::{EncoderFolder, save_encoder_folder};
pub use hearth_kernel::attention::CacheType;
pub use lora::{Lora, LoraConfig, LowRank, block_of};
pub use masked::{MaskedModel, load_masked_folder, save_masked_folder, with_masked_head};
pub use rope_scaling::RopeScaling;
pub use runner::{Feed, Logits, Runner, Sequence};
pub use task::{Backbone, Task, TaskModel};
pub use task_folder::{Adapted, Problem, TaskFolder, adapt_backbone, adapt_folder, save_task_folder};
pub use task_runner::TaskRunner;
pub use updates::Updates;
pub use weights::{StoredType, Weights, load_folder, save_folder};
