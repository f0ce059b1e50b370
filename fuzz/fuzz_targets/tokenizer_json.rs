//! `tokenizer.json`; see `tokenizer_json` in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_fuzz::tokenizer_json::run(data));
