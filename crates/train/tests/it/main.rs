//! Tests of training through its public interface.

mod bench;
mod classical;
mod contrastive;
mod embed;
mod finetune;
mod golden;
mod heads;
mod infill;
mod lora;
mod masked;
mod metrics;
mod pretrain;
mod pretrain_masked;
mod recurrent;
