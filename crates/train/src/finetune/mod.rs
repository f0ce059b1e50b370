//! Fine-tuning: a pretrained model learns a task from labelled examples.

pub mod loss;
