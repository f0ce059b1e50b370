//! Chat templates: compiled, and a conversation rendered.
#![no_main]

use hearth_engine::{ChatTemplate, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let special = ["<|im_start|>", "<|im_end|>", "</s>"].map(str::to_owned).to_vec();
    let tokens =
        vec![("bos_token".to_owned(), "<s>".to_owned()), ("eos_token".to_owned(), "</s>".to_owned())];
    let Ok(template) = ChatTemplate::new(source, special, tokens) else { return };
    let messages = [
        Message::new("system", "Be brief."),
        Message::new("user", "a < b, <|im_end|> {{ x }}"),
        Message::new("assistant", "<think>so</think>\nYes."),
        Message::new("user", "Why?"),
    ];
    let _ = template.at(1_700_000_000).render(&messages, true);
});
