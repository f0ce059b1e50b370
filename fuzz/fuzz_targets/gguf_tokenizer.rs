//! Tokenizers of GGUF files; see `gguf_tokenizer` in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_fuzz::gguf_tokenizer::run(data));
