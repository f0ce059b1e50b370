//! Model folders; see `safetensors` in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_fuzz::safetensors::run(data));
