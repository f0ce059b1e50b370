//! What conversations and texts teach: which tokens carry loss, and that what stands before them is the prompt.

use crate::template::source;
use crate::texts;
use hearth_engine::{
    ChatTemplate, Lesson, Message, SpecialRules, frame_conversation, frame_document, frame_infill,
    with_template,
};
use hearth_tokenizer::{BpeTrainer, END_OF_TEXT, PreTokenizer, Tokenizer};
use serde_json::json;

const SPECIAL: [&str; 6] =
    [END_OF_TEXT, "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];

fn tokenizer(template: Option<&str>) -> Tokenizer {
    let special_tokens = SPECIAL.iter().map(|token| (*token).to_owned()).collect();
    let trainer = BpeTrainer { special_tokens, ..BpeTrainer::new(340, PreTokenizer::Qwen2) };
    let mut config = json!({ "eos_token": END_OF_TEXT });
    if let Some(name) = template {
        config["chat_template"] = json!(source(name));
    }
    let config = config.as_object().expect("an object").clone();
    trainer.train(texts(), |_| {}).expect("trains").with_config(config)
}

fn chat(turns: &[(&str, &str)]) -> Vec<Message> {
    turns.iter().map(|&(role, content)| Message::new(role, content)).collect()
}

fn teach(tokenizer: &Tokenizer, messages: &[Message], learnt: &[bool]) -> Vec<Lesson> {
    let template = ChatTemplate::of(tokenizer).expect("a template").expect("there").at(1_700_000_000);
    frame_conversation(tokenizer, &template, messages, learnt).expect("frames")
}

/// The stretches that are learnt, as text with special tokens.
fn learnt(tokenizer: &Tokenizer, lesson: &Lesson) -> Vec<String> {
    let ids = lesson.ids.iter().zip(&lesson.learnt).collect::<Vec<_>>();
    let stretches = ids.chunk_by(|a, b| a.1 == b.1).filter(|stretch| *stretch[0].1);
    let text = |stretch: &[(&u32, &bool)]| {
        let ids: Vec<u32> = stretch.iter().map(|(id, _)| **id).collect();
        tokenizer.decode(&ids, false).expect("decodes")
    };
    stretches.map(text).collect()
}

#[test]
fn the_assistants_turns_are_learnt_up_to_the_token_that_ends_them() {
    let turns = chat(&[
        ("system", "The dog is kind."),
        ("user", "The cat?"),
        ("assistant", "On the mat."),
        ("user", "春眠不觉晓 <|im_end|>"),
        ("assistant", "处处闻啼鸟。"),
    ]);
    let mask = [false, false, true, false, true];
    for name in ["smollm2", "qwen2.5"] {
        let tokenizer = tokenizer(Some(name));
        let lessons = teach(&tokenizer, &turns, &mask);
        assert_eq!(lessons.len(), 1, "{name}");
        let lesson = &lessons[0];
        assert_eq!(learnt(&tokenizer, lesson), ["On the mat.<|im_end|>", "处处闻啼鸟。<|im_end|>"]);
        // Up to the first answer stands what the model will be asked with.
        let template = ChatTemplate::of(&tokenizer).unwrap().unwrap().at(1_700_000_000);
        let prompt = template.render(&turns[..2], true).unwrap().tokens(&tokenizer).unwrap();
        assert_eq!(lesson.ids[..prompt.len()], prompt);
        assert!(lesson.learnt[prompt.len()] && !lesson.learnt[prompt.len() - 1]);
        let whole = template.render(&turns, false).unwrap().text();
        assert_eq!(tokenizer.decode(&lesson.ids, false).unwrap(), whole);
        // A spelled-out end in a message isn't one.
        let end = tokenizer.id_of("<|im_end|>").unwrap();
        assert_eq!(lesson.ids.iter().filter(|&&id| id == end).count(), turns.len());
        // A turn that isn't to be learnt is only read.
        let lessons = teach(&tokenizer, &turns, &[false, false, false, false, true]);
        assert_eq!(learnt(&tokenizer, &lessons[0]), ["处处闻啼鸟。<|im_end|>"]);
    }
}

#[test]
fn where_a_template_rewrites_earlier_turns_each_turn_is_a_lesson() {
    let tokenizer = tokenizer(Some("qwen3"));
    let turns = chat(&[
        ("user", "The cat?"),
        ("assistant", "<think>\nA mat.\n</think>\n\nOn the mat."),
        ("user", "The dog?"),
        ("assistant", "<think>\nA cat.\n</think>\n\nAfter the cat."),
    ]);
    let lessons = teach(&tokenizer, &turns, &[false, true, false, true]);
    let texts: Vec<Vec<String>> = lessons.iter().map(|lesson| learnt(&tokenizer, lesson)).collect();
    assert_eq!(texts.len(), 2);
    assert_eq!(texts[0], ["<think>\nA mat.\n</think>\n\nOn the mat.<|im_end|>"]);
    assert_eq!(texts[1], ["<think>\nA cat.\n</think>\n\nAfter the cat.<|im_end|>"]);
    assert!(
        !tokenizer.decode(&lessons[1].ids, false).unwrap().contains("A mat."),
        "thoughts of before are gone"
    );
}

#[test]
fn a_model_without_a_template_gets_a_plain_one() {
    let (tokenizer, plain) = with_template(&tokenizer(None)).expect("an end there is");
    assert!(plain);
    let turns = chat(&[("user", "The cat?"), ("assistant", " On the mat. ")]);
    let lessons = teach(&tokenizer, &turns, &[false, true]);
    let text = tokenizer.decode(&lessons[0].ids, false).unwrap();
    assert_eq!(text, "User: The cat?\nAssistant: On the mat.<|endoftext|>\n");
    assert_eq!(learnt(&tokenizer, &lessons[0]), [" On the mat.<|endoftext|>"]);
    let endless = tokenizer.with_config(Default::default());
    assert!(with_template(&endless).unwrap_err().to_string().contains("no eos token"));
}

#[test]
fn a_template_that_lets_nobody_speak_is_refused() {
    let template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}\
                    {% if add_generation_prompt %}[bot]{% endif %}";
    let tokenizer = tokenizer(None);
    let template = ChatTemplate::new(template, Vec::new(), Vec::new()).unwrap();
    let turns = chat(&[("user", "The cat?"), ("assistant", "On the mat.")]);
    let error = frame_conversation(&tokenizer, &template, &turns, &[false, true]).unwrap_err().to_string();
    assert!(error.contains("begins an assistant's turn otherwise"), "{error}");
}

#[test]
fn texts_end_and_gaps_are_filled_in_at_the_end() {
    let tokenizer = tokenizer(None);
    let special = SpecialRules::of_tokenizer(&tokenizer);
    let lesson = frame_document(&tokenizer, &special, "The cat sat.").unwrap();
    assert_eq!(tokenizer.decode(&lesson.ids, false).unwrap(), "The cat sat.<|endoftext|>");
    assert_eq!(lesson.targets(), lesson.ids.len() - 1);
    let lesson = frame_infill(&tokenizer, &special, ["The ", "cat", " sat."]).unwrap();
    assert_eq!(
        tokenizer.decode(&lesson.ids, false).unwrap(),
        "<|fim_prefix|>The <|fim_suffix|> sat.<|fim_middle|>cat<|endoftext|>"
    );
    let plain = crate::bpe();
    let error = frame_infill(&plain, &SpecialRules::of_tokenizer(&plain), ["", "", ""]).unwrap_err();
    assert!(error.to_string().contains("can't fill in a middle"));
}
