//! Files of every kind, and every kind of bad file.

use hearth_data::{Corpus, CorpusOptions, DataError};

use crate::{gzip, read, refused, write, zstd};

fn named(field: &str) -> CorpusOptions {
    CorpusOptions { field: Some(field.to_string()), ..CorpusOptions::default() }
}

#[test]
fn every_format_plain_and_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let lines = "{\"text\": \"one\\nline\"}\n\n{\"text\": \"two\", \"n\": 2}\n\"three\"\r\n";
    let expect = ["one\nline", "two", "three"];
    for (name, content) in [
        ("a.jsonl", lines.as_bytes().to_vec()),
        ("b.jsonl.gz", gzip(lines.as_bytes())),
        ("c.jsonl.zst", zstd(lines.as_bytes())),
        ("d.ndjson", [b"\xEF\xBB\xBF", lines.as_bytes()].concat()),
        ("two-members.jsonl.gz", [gzip(&lines.as_bytes()[..22]), gzip(&lines.as_bytes()[22..])].concat()),
        ("two-frames.jsonl.zst", [zstd(&lines.as_bytes()[..22]), zstd(&lines.as_bytes()[22..])].concat()),
        ("e.json", b"[{\"text\": \"one\\nline\"}, {\"text\": \"two\"}, \"three\"]".to_vec()),
        ("f.csv", b"id,text\n1,\"one\nline\"\n2,two\n3,three\n".to_vec()),
        ("g.csv", b"id,review\n1,\"one\nline\"\n2,two\n3,three\n".to_vec()),
        ("h.csv.gz", gzip(b"anything\n\"one\nline\"\ntwo\nthree\n")),
        ("i.tsv", b"text\tid\n\"one\nline\"\t1\ntwo\t2\nthree\t3\n".to_vec()),
    ] {
        let path = write(at, name, content);
        assert_eq!(read(&[path], CorpusOptions::default()).unwrap(), expect, "{name}");
    }
}

#[test]
fn a_named_field() {
    let folder = tempfile::tempdir().unwrap();
    let lines = write(folder.path(), "a.jsonl", "{\"text\": \"no\", \"body\": \"yes\"}\n");
    let table = write(folder.path(), "b.csv", "text,body\nno,yes\n");
    assert_eq!(read(&[lines, table], named("body")).unwrap(), ["yes", "yes"]);
}

#[test]
fn a_share_of_the_documents_whatever_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..1000).map(|i| format!("{{\"text\": \"document {i}\"}}\n")).collect();
    let forward = write(folder.path(), "a.jsonl", lines.concat());
    let backward = write(folder.path(), "b.jsonl", lines.iter().rev().cloned().collect::<String>());
    let some = |share: f64| CorpusOptions { share, ..CorpusOptions::default() };
    let mut quarter = read(std::slice::from_ref(&forward), some(0.25)).unwrap();
    assert!((200..300).contains(&quarter.len()), "{}", quarter.len());
    let half = read(std::slice::from_ref(&forward), some(0.5)).unwrap();
    assert!(quarter.iter().all(|text| half.contains(text)), "a larger share holds the smaller one");
    let mut turned = read(&[backward], some(0.25)).unwrap();
    quarter.sort();
    turned.sort();
    assert_eq!(quarter, turned);
    assert_eq!(read(&[forward], some(1.0)).unwrap().len(), 1000);
}

#[test]
fn folders_globs_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, "b/2.md", "second");
    write(at, "b/1.txt", "first");
    write(at, "c.txt.gz", gzip(b"third"));
    write(at, "ignored.png", b"\x89PNG");
    write(at, ".hidden.txt", "not read");
    assert_eq!(read(&[at.into()], CorpusOptions::default()).unwrap(), ["first", "second", "third"]);
    assert_eq!(read(&[at.join("**/*.txt")], CorpusOptions::default()).unwrap(), ["not read", "first"]);
    let odd = write(at, "odd [1].log", "a file named like a glob");
    assert_eq!(read(&[odd], CorpusOptions::default()).unwrap().len(), 1);
    let corpus = Corpus::open(&[at.into()], CorpusOptions::default()).unwrap();
    assert_eq!(corpus.files().len(), 3);
    let indices: Vec<u64> = corpus.documents().map(|document| document.unwrap().index).collect();
    assert_eq!(indices, [0, 1, 2]);
}

#[test]
fn text_is_whole_or_in_paragraphs_or_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let text = "one\none more\n\n \ntwo\n\n\nthree\n";
    let path = write(folder.path(), "a.txt", text);
    assert_eq!(read(std::slice::from_ref(&path), CorpusOptions::default()).unwrap(), [text]);
    let options = CorpusOptions { split_blank_lines: true, ..CorpusOptions::default() };
    assert_eq!(read(&[path], options).unwrap(), ["one\none more", "two", "three"]);

    let long: String = (0..200).map(|i| format!("Paragraph {i} — 月光。\n\n")).collect();
    let path = write(folder.path(), "long.txt", &long);
    let small = CorpusOptions { whole_bytes: 1000, piece_bytes: 300, ..CorpusOptions::default() };
    let pieces = read(&[path], small.clone()).unwrap();
    assert!(pieces.len() > 10 && pieces.iter().all(|piece| piece.len() <= 300 && piece.ends_with("\n\n")));
    assert_eq!(pieces.concat(), long);
    let unbroken = write(folder.path(), "unbroken.txt", "月光".repeat(500));
    assert_eq!(read(&[unbroken], small).unwrap().concat(), "月光".repeat(500));
}

#[test]
fn bad_input_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let bad = |name: &str, content: &[u8], parts: &[&str]| {
        let path = write(at, name, content);
        refused(read(&[path], CorpusOptions::default()), &[parts, &[name]].concat());
    };
    bad("latin1.txt", b"caf\xE9 au lait", &["UTF-8", "byte 3", "hint:"]);
    let device = read(&["/dev/null".into()], CorpusOptions::default());
    refused(device, &["/dev/null", "neither a file nor a folder", "hint:"]);
    bad("latin1.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"\xE9\"}\n", &["UTF-8", "byte 24"]);
    bad("latin1.csv", b"text\nfine\ncaf\xE9\n", &["UTF-8", "byte 10"]);
    bad("broken.jsonl", b"{\"text\": \"a\"}\n{\"text\": \n", &["broken.jsonl:2", "not valid JSON"]);
    bad("broken.json", b"[\"a\",\n \"b\"", &["broken.json:2", "not valid JSON"]);
    bad("other.jsonl", b"{\"body\": \"a\", \"id\": 1}\n", &["other.jsonl:1", "\"text\"", "\"body\", \"id\""]);
    bad("number.jsonl", b"{\"text\": 5}\n", &["number.jsonl:1", "a number", "string"]);
    bad("list.jsonl", b"[1]\n", &["list.jsonl:1", "an array"]);
    bad("other.csv", b"a,b\n1,2\n", &["\"text\"", "\"a\", \"b\""]);
    bad("ragged.csv", b"text,b\n1,2\n1\n", &["ragged.csv:3", "2 columns", "got 1"]);
    let whole = gzip("words and more words ".repeat(2000).as_bytes());
    bad("cut.txt.gz", &whole[..whole.len() / 2], &["ends too early", "hint:"]);
    let mut damaged = whole.clone();
    let end = damaged.len() - 6;
    damaged[end] ^= 1;
    bad("damaged.txt.gz", &damaged, &["damaged"]);
    let whole = zstd("words and more words ".repeat(2000).as_bytes());
    bad("cut.txt.zst", &whole[..whole.len() / 2], &["hint:"]);
}

/// A cut table must not pass for a short one either.
#[test]
fn a_cut_table_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let whole = gzip(format!("text\n{}", "some words\n".repeat(5000)).as_bytes());
    let path = write(folder.path(), "cut.csv.gz", &whole[..whole.len() - 12]);
    refused(read(&[path], CorpusOptions::default()), &["cut.csv.gz", "ends too early"]);
}

#[test]
fn nothing_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    refused(read(&[at.into()], CorpusOptions::default()), &["no file of a known type", "hint:"]);
    refused(read(&[at.join("*.txt")], CorpusOptions::default()), &["matches no file", "*.txt"]);
    refused(read(&[at.join("gone.txt")], CorpusOptions::default()), &["does not exist", "gone.txt"]);
    refused(read(&[], CorpusOptions::default()), &["no path"]);
    let blank = write(at, "blank.txt", " \n\n");
    let error = refused(read(&[blank], CorpusOptions::default()), &["empty"]);
    assert!(matches!(error, DataError::Empty { .. }));
}
