//! Hostile files, each refused in words; mutations of a good one; the round trip.

use super::*;
use crate::error::ModelError;
use hearth_kernel::quant::BlockType;
use proptest::prelude::*;
use std::path::Path;

/// A file in parts, to be spoilt one part at a time.
#[derive(Clone)]
struct Draft {
    magic: &'static [u8],
    version: u32,
    n_tensors: Option<u64>,
    n_keys: Option<u64>,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: Vec<u8>,
}

impl Draft {
    /// A key, and two tensors: `a` of 4 × 2 `F32`, `b` of 32 values in `Q4_0`.
    fn good() -> Self {
        Draft {
            magic: b"GGUF",
            version: 3,
            n_tensors: None,
            n_keys: None,
            keys: vec![key("answer", 4, &42u32.to_le_bytes())],
            tensors: vec![tensor("a", &[4, 2], 0, 0), tensor("b", &[32], 2, 32)],
            data: (0..50).collect(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_keys.unwrap_or(self.keys.len() as u64).to_le_bytes());
        out.extend(self.keys.concat());
        out.extend(self.tensors.concat());
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(&self.data);
        out
    }
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&string(name.as_bytes()), &kind.to_le_bytes()[..], value].concat()
}

fn array(element: u32, len: u64, elements: &[u8]) -> Vec<u8> {
    [&element.to_le_bytes(), &len.to_le_bytes()[..], elements].concat()
}

fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut out = string(name.as_bytes());
    out.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|size| out.extend(size.to_le_bytes()));
    out.extend(kind.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

fn parse(bytes: Vec<u8>) -> Result<Gguf, ModelError> {
    Gguf::parse(bytes, Path::new("m.gguf"))
}

/// The good file with a change is refused in these words.
fn refused(change: impl FnOnce(&mut Draft), expect: &str) {
    let mut draft = Draft::good();
    change(&mut draft);
    let error = parse(draft.bytes()).expect_err(expect).to_string();
    assert!(error.starts_with("m.gguf: ") && error.contains(expect), "expected {expect:?}, got {error}");
}

#[test]
fn a_good_file_is_read() {
    let file = parse(Draft::good().bytes()).expect("good");
    assert_eq!((file.version(), file.alignment()), (3, 32));
    assert_eq!(file.get::<u32>("answer").expect("there"), 42);
    let a = file.tensor("a").expect("readable").expect("there");
    assert_eq!((a.row_len(), a.rows(), a.shape(), a.byte_len()), (4, 2, vec![2, 4], 32));
    assert_eq!(file.bytes(a), (0..32).collect::<Vec<u8>>());
    let b = file.require("b").expect("there");
    assert_eq!((b.kind, file.bytes(b)), (BlockType::Q4_0, &(32..50).collect::<Vec<u8>>()[..]));
    assert!(file.tensor("c").expect("no error").is_none());
    let missing = file.require("c").expect_err("missing").to_string();
    assert_eq!(missing, "m.gguf: tensor c is missing");
}

#[test]
fn version_2_is_read_and_others_are_refused() {
    let mut draft = Draft::good();
    draft.version = 2;
    assert_eq!(parse(draft.bytes()).expect("version 2").version(), 2);
    refused(|d| d.version = 1, "expected version 2 or 3 of GGUF, got 1");
    refused(|d| d.version = 4, "expected version 2 or 3 of GGUF, got 4");
    refused(|d| d.version = 0, "expected version 2 or 3 of GGUF, got 0");
    refused(|d| d.version = 3u32.swap_bytes(), "a big-endian file (version 3)");
    refused(|d| d.magic = b"ggjt", "expected it to begin with \"GGUF\", got \"ggjt\"");
    refused(|d| d.magic = b"\x80\0\n\"", r#"got "\x80\x00\n\"""#);
}

#[test]
fn counts_and_lengths_beyond_the_file_are_refused() {
    refused(|d| d.n_keys = Some(u64::MAX), "expected at most 65536 keys, got 18446744073709551615");
    refused(|d| d.n_tensors = Some(1 << 40), "expected at most 65536 tensors, got 1099511627776");
    refused(|d| d.n_keys = Some(2), "cut short: tensor name");
    refused(|d| d.n_tensors = Some(60_000), "tensor name at byte 120: expected 1 to 65535 bytes, got 0");
    refused(|d| d.keys = vec![key("s", 8, &u64::MAX.to_le_bytes())], "key s: cut short: string at byte");
    refused(
        |d| d.keys = vec![key("v", 9, &array(10, u64::MAX / 8, &[]))],
        "key v: 2305843009213693951 array elements announced at byte",
    );
    refused(|d| d.keys = vec![key("v", 9, &array(8, 1 << 60, &[]))], "the rest of the file holds at most");
    refused(|d| d.keys = vec![key("v", 9, &array(9, 1 << 60, &[]))], "the rest of the file holds at most");
    refused(|d| d.keys = vec![(1u64 << 63).to_le_bytes().to_vec()], "cut short: key at byte 32 takes");
    refused(|d| d.keys = vec![key(&"k".repeat(70_000), 0, &[1])], "expected 1 to 65535 bytes, got 70000");
}

#[test]
fn more_strings_than_any_vocabulary_has_are_refused() {
    let strings = vec![0; 8 * (cursor::MOST_WALKED + 1)];
    let value = array(8, strings.len() as u64 / 8, &strings);
    refused(|d| d.keys = vec![key("v", 9, &value)], "expected at most 4194304 strings and arrays");
}

#[test]
fn metadata_that_is_none_is_refused() {
    refused(|d| d.keys = vec![key("v", 13, &[])], "key v: expected a value type from 0 to 12 at byte");
    refused(|d| d.keys = vec![key("v", 7, &[2])], "key v: expected a bool of 0 or 1, got 2");
    refused(|d| d.keys = vec![key("v", 9, &array(7, 2, &[1, 3]))], "key v: element 1: expected a bool");
    let nested = |depth| (1..depth).fold(array(0, 1, &[7]), |inner, _| array(9, 1, &inner));
    refused(|d| d.keys = vec![key("v", 9, &nested(5))], "expected arrays at most 4 deep");
    refused(|d| d.keys = vec![key("v", 9, &nested(1000))], "expected arrays at most 4 deep");
    let mut draft = Draft::good();
    draft.keys = vec![key("v", 9, &nested(4))];
    let file = parse(draft.bytes()).expect("four deep");
    assert_eq!(file.get::<Vec<Vec<Vec<Vec<u32>>>>>("v").expect("four deep"), [[[[7]]]]);
    refused(|d| d.keys.extend(Draft::good().keys), "key answer is there twice");
    refused(|d| d.keys = vec![[string(b"k\xff"), vec![0; 5]].concat()], "expected UTF-8, got \"k");
    for alignment in [0u32, 1, 4, 24, 33] {
        let expect = format!("a power of two of at least 8, got {alignment} (u32)");
        refused(|d| d.keys = vec![key(ALIGNMENT_KEY, 4, &alignment.to_le_bytes())], &expect);
    }
    let alignment = (1u64 << 63).to_le_bytes();
    refused(|d| d.keys = vec![key(ALIGNMENT_KEY, 10, &alignment)], "tensor a: 32 bytes at offset 0 end past");
    refused(|d| d.keys = vec![key(ALIGNMENT_KEY, 8, &string(b"32"))], "got \"32\"");
}

#[test]
fn tensors_that_cannot_be_are_refused() {
    let with = |spoilt: Vec<u8>| move |d: &mut Draft| d.tensors[1] = spoilt;
    refused(with(tensor("b", &[], 2, 32)), "tensor b: expected 1 to 4 dimensions, got 0");
    refused(with(tensor("b", &[1; 5], 2, 32)), "tensor b: expected 1 to 4 dimensions, got 5");
    refused(with(tensor("b", &[32, 0], 2, 32)), "tensor b: expected dimensions of at least 1, got [32, 0]");
    refused(
        with(tensor("b", &[48], 2, 32)),
        "expected rows of a multiple of 32 values, for they are Q4_0, got 48",
    );
    refused(
        with(tensor("b", &[128], 12, 32)),
        "expected rows of a multiple of 256 values, for they are Q4_K",
    );
    refused(with(tensor("b", &[1 << 32, 1 << 32], 0, 32)), "have more values than this machine can count");
    refused(with(tensor("b", &[1 << 31, 1 << 31], 0, 32)), "have more bytes than this machine can count");
    refused(with(tensor("b", &[7], 99, 64)), "tensor b: 1 bytes at offset 64");
    refused(with(tensor("b", &[32], 2, 33)), "tensor b: expected an offset that is a multiple of 32, got 33");
    refused(
        with(tensor("b", &[32], 2, 64)),
        "18 bytes at offset 64 end past the file, whose data have 50 bytes",
    );
    refused(with(tensor("b", &[32], 2, u64::MAX - 31)), "end past the file");
    refused(with(tensor("b", &[64], 2, 32)), "tensor b: 36 bytes at offset 32 end past the file");
    refused(with(tensor("a", &[32], 2, 32)), "tensor a is there twice");
    refused(with(tensor("b", &[32], 2, 0)), "tensors a and b overlap");
    refused(with(tensor("b", &[32], 99, 0)), "overlap");
    refused(|d| d.tensors[1][8] = 0xff, "tensor name at byte");
    refused(with(tensor(&"\x1b".repeat(100), &[], 2, 32)), r"tensor \u{1b}\u{1b}");
}

#[test]
fn other_types_are_an_error_only_when_wanted() {
    let mut draft = Draft::good();
    draft.tensors[1] = tensor("b", &[256, 7], 23, 32);
    let file = parse(draft.bytes()).expect("opens");
    assert!(file.require("a").is_ok());
    let error = file.tensor("b").expect_err("unknown").to_string();
    assert!(error.contains("tensor b is of type 23 (IQ4_XS)") && error.contains("F32, F16, BF16"), "{error}");
    assert_eq!(file.tensors().filter(Result::is_ok).count(), 1);
    assert_eq!(file.tensor_names().collect::<Vec<_>>(), ["a", "b"]);
}

/// A file that says it is a model of these sizes.
fn model(architecture: &str, sizes: &[(&str, u64)], tensors: Vec<Vec<u8>>) -> Gguf {
    let mut draft = Draft::good();
    draft.keys.push(key("general.architecture", 8, &string(architecture.as_bytes())));
    let sizes =
        sizes.iter().map(|(size, value)| key(&format!("{architecture}.{size}"), 10, &value.to_le_bytes()));
    draft.keys.extend(sizes);
    draft.tensors = tensors;
    parse(draft.bytes()).expect("good")
}

#[test]
fn heads_of_any_size_take_no_memory_before_they_are_checked() {
    let sizes = [
        ("embedding_length", 4),
        ("attention.head_count", 1),
        ("attention.key_length", 1 << 62),
        ("attention.value_length", 1 << 62),
        ("rope.dimension_count", 1 << 62),
        ("feed_forward_length", 8),
        ("block_count", 1),
        ("context_length", 8),
    ];
    let tensors = vec![tensor("token_embd.weight", &[4, 2], 0, 0), tensor("rope_freqs.weight", &[4], 0, 32)];
    let error = GgufModel::new(model("llama", &sizes, tensors)).expect_err("refused").to_string();
    assert!(error.contains("head_dim is 4611686018427387904"), "{error}");
}

/// Four times this width is more than a machine counts to.
#[test]
fn an_encoder_of_any_width_is_refused_before_anything_is_computed_from_it() {
    let sizes = [
        ("embedding_length", 1 << 62),
        ("attention.head_count", 1),
        ("feed_forward_length", 8),
        ("block_count", 1),
        ("context_length", 8),
    ];
    let tensors = vec![tensor("token_embd.weight", &[4, 2], 0, 0), tensor("token_types.weight", &[4], 0, 32)];
    let error = GgufEncoder::new(model("bert", &sizes, tensors)).expect_err("refused").to_string();
    assert!(error.contains("hidden_size is 4611686018427387904"), "{error}");
}

#[test]
fn values_convert_where_nothing_is_lost() {
    let mut draft = Draft::good();
    draft.keys = vec![
        key("minus", 1, &[0xff]),
        key("wide", 10, &(1u64 << 40).to_le_bytes()),
        key("double", 12, &0.5f64.to_le_bytes()),
        key("nan", 6, &f32::NAN.to_le_bytes()),
        key("huge", 12, &1e300f64.to_le_bytes()),
        key("bytes", 8, &string(b"\xe4\xb8")),
        key("flags", 9, &array(7, 2, &[1, 0])),
        key("mixed", 9, &array(5, 2, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])),
    ];
    let file = parse(draft.bytes()).expect("good");
    assert_eq!(file.get::<i32>("minus").expect("fits"), -1);
    assert_eq!(file.get::<u64>("wide").expect("fits"), 1 << 40);
    assert_eq!(file.get::<f32>("double").expect("fits"), 0.5);
    assert_eq!(file.get::<&[u8]>("bytes").expect("bytes"), b"\xe4\xb8");
    assert_eq!(file.get::<Vec<bool>>("flags").expect("flags"), [true, false]);
    assert_eq!(file.get::<Vec<i32>>("mixed").expect("signed"), [1, -1]);
    assert_eq!(file.find::<u32>("none").expect("missing"), None);
    fn no<'a, T: FromValue<'a> + std::fmt::Debug>(file: &'a Gguf, key: &str, expect: &str) {
        let error = file.get::<T>(key).expect_err(expect).to_string();
        assert_eq!(error, format!("m.gguf: key {key}{expect}"));
    }
    no::<u32>(&file, "minus", ": expected a whole number from 0 to 4294967295, got -1 (i8)");
    no::<u32>(&file, "wide", ": expected a whole number from 0 to 4294967295, got 1099511627776 (u64)");
    no::<f32>(&file, "nan", ": expected a number (f32), got NaN (f32)");
    no::<bool>(&file, "minus", ": expected true or false, got -1 (i8)");
    no::<&str>(&file, "flags", ": expected a string of UTF-8, got an array of 2 bool");
    no::<f32>(&file, "none", " is missing, expected a number (f32)");
    no::<Vec<u32>>(
        &file,
        "mixed",
        ": expected an array, each element a whole number from 0 to 4294967295, got -1 (i32) as element 1",
    );
    assert!(file.get::<f32>("huge").is_err() && file.get::<&str>("bytes").is_err());
}

/// A file with every type of value, and with tensors of every type.
fn written(path: &Path) -> GgufWriter {
    let mut writer = GgufWriter::new();
    let set = |writer: &mut GgufWriter| {
        writer.set("u8", 200u8)?;
        writer.set("i8", -3i8)?;
        writer.set("u16", 60_000u16)?;
        writer.set("i16", -300i16)?;
        writer.set("u32", u32::MAX)?;
        writer.set("i32", i32::MIN)?;
        writer.set("u64", u64::MAX)?;
        writer.set("i64", i64::MIN)?;
        writer.set("f32", 1.5f32)?;
        writer.set("f64", 0.1f64)?;
        writer.set("bool", true)?;
        writer.set("text", "詩 poem")?;
        writer.set_array("tokens", &["a", "", "ü"])?;
        writer.set_array("pieces", &[&b"\xff"[..], b"ok"])?;
        writer.set_array("scores", &[0.5f32, f32::NEG_INFINITY])?;
        writer.set_array("kinds", &[1i32, -1])?;
        writer.set_array::<u32>("none", &[])?;
        for (i, kind) in BlockType::ALL.into_iter().enumerate() {
            writer.declare(&format!("t{i}"), &[256, i % 3 + 1], kind)?;
        }
        writer.declare("cube", &[3, 1, 2, 5], BlockType::F16)?;
        writer.write(path, |tensor, out| {
            let bytes = content(tensor);
            let (first, second) = bytes.split_at(bytes.len() / 3);
            out.write_all(first)?;
            Ok(out.write_all(second)?)
        })
    };
    set(&mut writer).expect("written");
    writer
}

fn content(tensor: &TensorInfo) -> Vec<u8> {
    (0..tensor.byte_len()).map(|i| (i * 7 + tensor.name.len()) as u8).collect()
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("all.gguf");
    let writer = written(&path);
    let file = Gguf::open(&path).expect("opens");
    assert_eq!(file.keys().count(), 17);
    assert_eq!(file.keys().next(), Some("u8"));
    assert_eq!(file.value("i64"), Some(Value::I64(i64::MIN)));
    assert_eq!(file.value("f64"), Some(Value::F64(0.1)));
    assert_eq!(file.get::<&str>("text").expect("text"), "詩 poem");
    assert_eq!(file.get::<Vec<&str>>("tokens").expect("tokens"), ["a", "", "ü"]);
    assert_eq!(file.get::<Vec<&[u8]>>("pieces").expect("pieces"), [&b"\xff"[..], b"ok"]);
    assert_eq!(file.get::<Vec<f32>>("scores").expect("scores"), [0.5, f32::NEG_INFINITY]);
    assert_eq!(file.get::<Vec<u32>>("none").expect("empty"), [0u32; 0]);
    for (declared, read) in writer.tensors().iter().zip(file.tensors()) {
        let read = read.expect("readable");
        assert_eq!((&read.name, &read.dims), (&declared.name, &declared.dims));
        assert_eq!((read.kind, read.range().start % 32), (declared.kind, 0));
        assert_eq!(file.bytes(read), content(declared), "{}", read.name);
    }
    // Copied value by value and tensor by tensor, it's the same file.
    let mut copy = GgufWriter::new();
    for key in file.keys() {
        copy.set_value(key, file.value(key).expect("a value")).expect("set");
    }
    for tensor in file.tensors().map(|t| t.expect("readable")) {
        copy.declare(&tensor.name, &tensor.dims, tensor.kind).expect("declared");
    }
    let again = folder.path().join("again.gguf");
    let fill = |tensor: &TensorInfo, out: &mut dyn std::io::Write| {
        Ok(out.write_all(file.bytes(file.require(&tensor.name)?))?)
    };
    copy.write(&again, fill).expect("written");
    assert_eq!(std::fs::read(&again).expect("read"), std::fs::read(&path).expect("read"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 2, "a partial file was left");
}

#[test]
fn a_writer_refuses_what_llama_cpp_would() {
    fn no(result: Result<(), ModelError>, expect: &str) {
        let error = result.expect_err(expect).to_string();
        assert!(error.starts_with("GGUF to be written: ") && error.contains(expect), "{error}");
    }
    let mut writer = GgufWriter::new();
    writer.set("k", 1u32).expect("set");
    no(writer.set("k", 2u32), "key k: is set twice");
    no(writer.set("", 2u32), "expected 1 to 65535 bytes, got 0");
    no(writer.set(ALIGNMENT_KEY, 64u32), "files are written with 32");
    writer.declare("t", &[32], BlockType::Q8_0).expect("declared");
    no(writer.declare("t", &[32], BlockType::Q8_0), "tensor t: is declared twice");
    no(writer.declare(&"t".repeat(64), &[32], BlockType::F32), "expected a name of 1 to 63 bytes, got 64");
    no(writer.declare("d", &[], BlockType::F32), "expected 1 to 4 dimensions of at least 1, got []");
    no(writer.declare("d", &[1, 0], BlockType::F32), "expected 1 to 4 dimensions of at least 1");
    no(writer.declare("d", &[usize::MAX, 2], BlockType::F32), "expected 1 to 4 dimensions of at least 1");
    no(writer.declare("d", &[usize::MAX], BlockType::F32), "more bytes than this machine can count");
    no(writer.declare("d", &[48], BlockType::Q8_0), "expected rows of a multiple of 32 values");
}

#[test]
fn a_tensor_of_another_length_leaves_the_old_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, "old").expect("written");
    let mut writer = GgufWriter::new();
    writer.declare("t", &[4], BlockType::F32).expect("declared");
    for (len, got) in [(15, "15"), (17, "more")] {
        let error = writer.write(&path, |_, out| Ok(out.write_all(&vec![0; len])?)).expect_err("refused");
        let expect = format!("tensor t: expected 16 bytes to be written, got {got}");
        assert!(error.to_string().ends_with(&expect), "{error}");
        assert_eq!(std::fs::read(&path).expect("read"), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 1, "a partial file was left");
    }
}

#[test]
fn each_truncation_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("all.gguf");
    written(&path);
    let file = Gguf::open(&path).expect("opens");
    let end = file.tensors().map(|t| t.expect("readable").range().end).max().expect("tensors");
    let bytes = std::fs::read(&path).expect("read");
    for len in (0..end.min(2048)).chain((2048..end).step_by(97)) {
        let error = parse(bytes[..len].to_vec()).expect_err("cut short");
        assert!(matches!(error, ModelError::Weights { .. }), "{error}");
    }
    std::fs::write(&path, "").expect("written");
    let error = Gguf::open(&path).expect_err("empty").to_string();
    assert!(error.contains("all.gguf: cut short: the file's first word at byte 0 takes 4 bytes"), "{error}");
    assert!(Gguf::open(folder.path()).is_err(), "a folder");
}

/// Everything that can be asked of a file.
fn use_all(file: &Gguf) {
    for key in file.keys() {
        let value = file.value(key).expect("a value that was read before");
        value.describe();
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
        }
        drop((file.get::<Vec<&str>>(key), file.get::<Vec<f32>>(key), file.get::<usize>(key)));
    }
    for tensor in file.tensors().flatten() {
        assert_eq!(file.bytes(tensor).len(), tensor.byte_len());
        assert_eq!(tensor.elements(), tensor.rows() * tensor.row_len());
    }
}

fn good_bytes() -> &'static [u8] {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("all.gguf");
        written(&path);
        std::fs::read(&path).expect("read")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn mutations_never_panic(
        changes in prop::collection::vec((0usize..1800, any::<u8>()), 1..6),
        words in prop::collection::vec((0usize..1800, prop_oneof![any::<u64>(), 0u64..64]), 0..2),
        len in prop_oneof![Just(usize::MAX), 0usize..4000],
    ) {
        let mut bytes = good_bytes().to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        for (at, word) in words {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes.truncate(len);
        if let Ok(file) = parse(bytes) {
            use_all(&file);
        }
    }

    #[test]
    fn noise_after_the_magic_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [b"GGUF\x03\0\0\0", &noise[..]].concat();
        if let Ok(file) = parse(bytes) {
            use_all(&file);
        }
    }
}
