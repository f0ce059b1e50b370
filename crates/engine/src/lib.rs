//! A model with its tokenizer: sessions, samplers, text in and text out.
#![forbid(unsafe_code)]
