//! Losses, optimisers, schedules, checkpoints and the pretraining loop.
#![forbid(unsafe_code)]
