//! GGUF files; see `gguf` in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_fuzz::gguf::run(data));
