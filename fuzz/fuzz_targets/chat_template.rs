//! Chat templates; see `chat_template` in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_fuzz::chat_template::run(data));
