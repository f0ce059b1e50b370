//! Tests of training through its public interface.

mod bench;
mod golden;
mod heads;
mod pretrain;
