//! Where words begin, in each kind of vocabulary, and the tokenizers of encoders.

use crate::texts;
use hearth_tokenizer::{BpeTrainer, ENCODER_TOKENS, PreTokenizer, Tokenizer};
use serde_json::{Map, json};

/// The text's tokens, with `|` where a word begins.
fn cut(tokenizer: &Tokenizer, text: &str) -> String {
    let ids = tokenizer.encode(text).unwrap();
    let mut out: Vec<u8> = Vec::new();
    for (at, &id) in ids.iter().enumerate() {
        if at > 0 && !tokenizer.continues_word(ids[at - 1], id) {
            out.push(b'|');
        }
        out.extend_from_slice(tokenizer.token_bytes(id).unwrap());
    }
    String::from_utf8(out).expect("no character is cut")
}

fn encoder(text: &str, vocab_size: usize) -> Tokenizer {
    let mut trainer = BpeTrainer::new(vocab_size, PreTokenizer::Qwen2);
    trainer.special_tokens = ENCODER_TOKENS.map(String::from).to_vec();
    trainer.train(texts(&[text]), |_| {}).unwrap()
}

#[test]
fn words_of_byte_level_vocabularies_are_runs_of_letters_and_digits() {
    // Bytes alone: every character of several bytes is cut by the tokens, none by the words.
    let bytes = encoder("x", 261);
    for (text, expect) in [
        ("the naïve film, twice", "the| naïve| film|,| twice"),
        ("我们看 film。", "我|们|看| film|。"),
        ("(don't) 42nd", "(|don|'|t|)| 42nd"),
        ("ещё раз", "ещё| раз"),
    ] {
        assert_eq!(cut(&bytes, text), expect);
    }
    let merged = encoder(&"the walking film ".repeat(9), 280);
    assert!(merged.encode("walking").unwrap().len() < 7, "nothing was merged");
    assert_eq!(cut(&merged, "the walking filmed"), "the| walking| filmed");
}

#[test]
fn word_piece_marks_what_goes_on() {
    let vocab = ["[UNK]", "film", "##ing", "##s", "影", "good"];
    let vocab: Map<_, _> = vocab.iter().zip(0..).map(|(w, i)| ((*w).to_string(), json!(i))).collect();
    let json = json!({
        "version": "1.0", "added_tokens": [], "normalizer": {"type": "BertNormalizer", "clean_text": true,
        "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, json.to_string()).unwrap();
    let tokenizer = Tokenizer::from_file(&path).unwrap();
    assert_eq!(cut(&tokenizer, "filmings good影films"), "filmings|good|影|films");
    assert_eq!(tokenizer.mask(), None);
}

#[test]
fn an_encoders_tokenizer_has_its_roles_and_frames_texts() {
    let tokenizer = encoder("the film the film", 270);
    let id = |token: &str| tokenizer.id_of(token).expect("a special token");
    assert!(ENCODER_TOKENS.iter().all(|token| tokenizer.is_special(id(token))));
    assert_eq!(
        (tokenizer.pad(), tokenizer.unk(), tokenizer.mask(), tokenizer.eos()),
        (Some(id("[PAD]")), Some(id("[UNK]")), Some(id("[MASK]")), Some(id("[SEP]")))
    );
    let json: serde_json::Value = serde_json::from_str(tokenizer.json()).unwrap();
    let single = json["post_processor"]["single"].to_string();
    assert!(single.contains("[CLS]") && single.contains("[SEP]"), "{single}");
    let folder = tempfile::tempdir().unwrap();
    tokenizer.save(folder.path()).unwrap();
    let again = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!((again.mask(), again.hash()), (tokenizer.mask(), tokenizer.hash()));
    assert!(!tokenizer.continues_word(id("[CLS]"), tokenizer.encode("film").unwrap()[0]));
}
