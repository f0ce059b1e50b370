//! GGUF files: read, every value and tensor looked at, and described as a model.
#![no_main]

use arbitrary::Unstructured;
use hearth_fuzz::gguf;
use hearth_model::gguf::{Gguf, GgufModel, Value};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fn look_at(value: Value) -> usize {
    match value {
        Value::Array(array) => array.iter().take(1000).map(look_at).sum(),
        Value::Str(bytes) => bytes.len(),
        _ => 1,
    }
}

fn read(bytes: Vec<u8>) {
    let Ok(file) = Gguf::parse(bytes, Path::new("fuzzed.gguf")) else { return };
    for key in file.keys() {
        look_at(file.value(key).expect("a key that was listed is there"));
    }
    for tensor in file.tensors().flatten() {
        assert_eq!(file.bytes(tensor).len(), tensor.byte_len());
    }
    if let Ok(model) = GgufModel::new(file) {
        assert!(model.decoder().n_params() > 0);
    }
}

// What begins as a GGUF file is taken as it is; anything else says how to spoil a good one.
fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"GGUF") {
        read(data.to_vec());
    } else if let Ok(bytes) = gguf::file(&mut Unstructured::new(data)) {
        read(bytes);
    }
});
