//! Train, load, encode and decode tokenizers behind one type.
#![forbid(unsafe_code)]
