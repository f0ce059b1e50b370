//! Token shards on disk.

use hearth_data::{Shard, ShardHeader, write_shard};
use hearth_tokenizer::{BpeTrainer, PreTokenizer};

use crate::{documents, letters, refused};

fn texts() -> Vec<String> {
    ["hello", "a", "world"].map(String::from).to_vec()
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/train.bin");
    let tokenizer = letters(true);
    let mut last = None;
    let header =
        write_shard(&path, documents(&texts()), &tokenizer, |progress| last = Some(progress)).unwrap();
    assert_eq!((header.tokens, header.documents, header.text_bytes), (14, 3, 11));
    assert_eq!((header.dtype.as_str(), header.separator), ("u16", tokenizer.eos()));
    assert_eq!(last.unwrap().tokens, 14);
    let shard = Shard::open(&path, &tokenizer).unwrap();
    shard.verify().unwrap();
    assert_eq!(shard.header(), &header);
    let end = tokenizer.eos().unwrap();
    assert_eq!(shard.tokens(4..9), [14, end, 0, end, 22]);
    assert_eq!((0..3).map(|i| shard.document(i)).collect::<Vec<_>>(), [0..6, 6..8, 8..14]);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[..4], [7, 0, 4, 0], "flat little-endian");
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 3);
}

#[test]
fn large_vocabularies_take_four_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.bin");
    let all: String = ('\u{4E00}'..'\u{FFFF}').chain('\u{20000}'..'\u{26000}').collect();
    let tokenizer = hearth_tokenizer::train_chars([Ok::<_, std::io::Error>(all)].into_iter(), &[]).unwrap();
    assert!(tokenizer.vocab_size() > 65_536);
    let header = write_shard(&path, documents(&["一\u{25FFF}".to_string()]), &tokenizer, |_| {}).unwrap();
    assert_eq!(header.dtype, "u32");
    let shard = Shard::open(&path, &tokenizer).unwrap();
    assert_eq!(shard.all(), [0, tokenizer.vocab_size() as u32 - 1]);
}

#[test]
fn batches_of_documents_make_one_stream() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.bin");
    let many: Vec<String> = (0..40_000).map(|i| "abcdefghij".repeat(i % 50)).collect();
    let tokenizer = letters(true);
    let header = write_shard(&path, documents(&many), &tokenizer, |_| {}).unwrap();
    assert!(header.text_bytes > 8 << 20, "more than one batch");
    let shard = Shard::open(&path, &tokenizer).unwrap();
    assert_eq!(
        shard.tokens(shard.document(39_987)),
        [tokenizer.encode(&many[39_987]).unwrap(), vec![26]].concat()
    );
}

#[test]
fn unfit_shards_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.bin");
    let tokenizer = letters(true);
    write_shard(&path, documents(&texts()), &tokenizer, |_| {}).unwrap();
    let text = ["some other text"].map(|text| Ok::<_, std::io::Error>(text.to_string()));
    let other = BpeTrainer::new(300, PreTokenizer::Gpt2).train(text.into_iter(), |_| {}).unwrap();
    refused(Shard::open(&path, &other), &["t.bin", "another tokenizer", "hint:"]);

    let mut bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..27]).unwrap();
    refused(Shard::open(&path, &tokenizer), &["t.bin", "14 × 2 bytes", "27 bytes", "hint:"]);
    bytes[0] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    refused(Shard::open(&path, &tokenizer).unwrap().verify(), &["t.bin", "checksum"]);

    let header = folder.path().join("t.json");
    let mut parsed: ShardHeader = serde_json::from_slice(&std::fs::read(&header).unwrap()).unwrap();
    parsed.version = 9;
    std::fs::write(&header, serde_json::to_string(&parsed).unwrap()).unwrap();
    refused(Shard::open(&path, &tokenizer), &["t.json", "expected 1, got 9"]);
    std::fs::write(&header, "{").unwrap();
    refused(Shard::open(&path, &tokenizer), &["t.json", "not a shard header"]);
    std::fs::remove_file(&header).unwrap();
    refused(Shard::open(&path, &tokenizer), &["t.json"]);
}

#[test]
fn a_failed_write_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.bin");
    let bad = ["fine".to_string(), "NOT".to_string()];
    refused(write_shard(&path, documents(&bad), &letters(true), |_| {}), &["'N'", "byte 0"]);
    refused(write_shard(&path, documents(&[]), &letters(true), |_| {}), &["empty"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
