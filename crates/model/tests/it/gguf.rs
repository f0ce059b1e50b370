//! Files of other writers are read: one of the `gguf` package, which `tests/gguf/make.py` made.

use hearth_model::gguf::{Gguf, TensorType, Value};
use std::path::Path;

#[test]
fn a_file_of_the_python_package_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf/python.gguf");
    let file = Gguf::open(&path).expect("opens");
    assert_eq!((file.version(), file.alignment()), (3, 64));
    assert_eq!(file.get::<&str>("general.architecture").expect("there"), "llama");
    for (key, value) in [
        ("u8", Value::U8(200)),
        ("i8", Value::I8(-3)),
        ("u16", Value::U16(60_000)),
        ("i16", Value::I16(-300)),
        ("i32", Value::I32(-70_000)),
        ("u64", Value::U64(u64::MAX)),
        ("i64", Value::I64(i64::MIN)),
        ("f32", Value::F32(1.5)),
        ("f64", Value::F64(0.1)),
        ("bool", Value::Bool(true)),
        ("text", Value::Str("詩 poem".as_bytes())),
    ] {
        assert_eq!(file.value(key), Some(value), "{key}");
    }
    assert_eq!(file.get::<Vec<&str>>("tokens").expect("text"), ["a", "Ġb", "ü"]);
    assert_eq!(file.get::<Vec<&[u8]>>("pieces").expect("bytes"), [&b"\xff"[..], b"ok"]);
    assert_eq!(file.get::<Vec<f32>>("scores").expect("numbers"), [0.5, -1000.0]);
    assert_eq!(file.get::<Vec<i32>>("kinds").expect("numbers"), [1, -1, 3]);
    let expect = [
        ("token_embd.weight", vec![256, 3], TensorType::Q4K),
        ("output_norm.weight", vec![5], TensorType::F32),
        ("blk.0.attn_q.weight", vec![64, 2], TensorType::Q8_0),
        ("half", vec![4, 3, 2], TensorType::F16),
        ("brain", vec![1, 7], TensorType::BF16),
    ];
    assert_eq!(file.tensors().count(), expect.len());
    for (t, (tensor, (name, dims, kind))) in file.tensors().zip(expect).enumerate() {
        let tensor = tensor.expect("readable");
        assert_eq!((tensor.name.as_str(), &tensor.dims, tensor.tensor_type), (name, &dims, kind));
        let bytes: Vec<u8> = (0..tensor.byte_len()).map(|i| (7 * i + t) as u8).collect();
        assert_eq!(file.bytes(tensor), bytes, "{name}");
    }
}
