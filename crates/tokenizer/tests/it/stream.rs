//! Decoding as a stream.

use hearth_tokenizer::{PreTokenizer, Tokenizer};
use proptest::prelude::*;

use crate::{TEXT, trained};

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.decode_stream();
    let mut text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
    text.extend(stream.finish());
    text
}

#[test]
fn bytes_of_a_character_wait_for_the_rest() {
    let tokenizer = trained(PreTokenizer::Gpt2);
    let byte = |byte: u8| (0..256).find(|&id| tokenizer.token_bytes(id) == Some(&[byte])).unwrap();
    let mut stream = tokenizer.decode_stream();
    for wait in &"🎉".as_bytes()[..3] {
        assert_eq!(stream.push(byte(*wait)), None);
    }
    assert_eq!(stream.push(byte("🎉".as_bytes()[3])).as_deref(), Some("🎉"));
    assert_eq!(stream.push(byte(0xE6)), None);
    assert_eq!(stream.push(byte(b'a')).as_deref(), Some("\u{FFFD}a"));
    assert_eq!(stream.push(byte(0xFF)).as_deref(), Some("\u{FFFD}"));
    assert_eq!(stream.push(byte(0xE6)), None);
    assert_eq!(stream.finish().as_deref(), Some("\u{FFFD}"));
    assert_eq!(stream.finish(), None);
}

#[test]
fn special_tokens_are_skipped_or_spelled() {
    let tokenizer = trained(PreTokenizer::Gpt2);
    let end = tokenizer.eos().unwrap();
    assert_eq!(tokenizer.decode_stream().push(end), None);
    assert_eq!(tokenizer.decode_stream().with_special().push(end).as_deref(), Some("<|endoftext|>"));
}

#[test]
fn stream_equals_decode_on_text() {
    let tokenizer = trained(PreTokenizer::Qwen2);
    let ids = tokenizer.encode(TEXT).unwrap();
    assert_eq!(streamed(&tokenizer, &ids), TEXT);
}

/// A tokenizer in the manner of SentencePiece, whose decoder strips the space that begins a text.
#[test]
fn stream_equals_decode_where_neighbours_matter() {
    let folder = tempfile::tempdir().unwrap();
    let mut vocab = serde_json::Map::new();
    let pieces = ["<unk>", "▁", "h", "i", "▁h", "▁hi", "o", "▁ho"];
    let bytes: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
    for (id, piece) in pieces.into_iter().chain(bytes.iter().map(String::as_str)).enumerate() {
        vocab.insert(piece.to_string(), id.into());
    }
    let file = serde_json::json!({
        "version": "1.0", "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
            "vocab": vocab, "merges": ["▁ h", "▁h i", "▁h o"]},
    });
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let tokenizer = Tokenizer::from_file(&path).unwrap();
    let text = "hi ho 月";
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    assert_eq!(streamed(&tokenizer, &ids), text);
    assert_eq!(tokenizer.token_bytes(5), Some(" hi".as_bytes()));
    assert_eq!(tokenizer.token_bytes(8 + 10), Some(b"\n".as_slice()));
}

proptest! {
    #[test]
    fn stream_equals_decode_on_any_ids(ids in prop::collection::vec(0u32..330, 0..40)) {
        let tokenizer = trained(PreTokenizer::Gpt2);
        prop_assert_eq!(streamed(&tokenizer, &ids), tokenizer.decode(&ids, true).unwrap());
    }
}
