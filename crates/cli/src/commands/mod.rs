//! One file a subcommand.

pub mod answer;
pub mod bench;
pub mod chat;
pub mod classify;
pub mod convert;
pub mod doctor;
pub mod embed;
pub mod eval;
pub mod finetune;
pub mod generate;
pub mod get;
pub mod key;
pub mod merge;
pub mod pretrain;
pub mod quickstart;
pub mod serve;
pub mod tag;
pub mod tokenizer;
