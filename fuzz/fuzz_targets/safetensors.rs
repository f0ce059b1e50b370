//! Model folders: `config.json` and the weights in `model.safetensors`, loaded as a command would.
#![no_main]

use arbitrary::{Result, Unstructured};
use hearth_fuzz::{json, number};
use hearth_model::load_folder;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use tempfile::TempDir;

const WORDS: [&str; 13] = [
    "gpt2",
    "openai-gpt",
    "llama",
    "qwen2",
    "qwen3",
    "gemma3_text",
    "F32",
    "F16",
    "BF16",
    "head_dim",
    "layer_types",
    "rope_parameters",
    "n_inner",
];

thread_local! {
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

fn config() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "hidden_act": "silu", "torch_dtype": "float32",
    })
}

/// The names and shapes of that configuration, laid out one after the other.
fn header() -> (Value, usize) {
    let block = "model.layers.0.";
    let tensors: [(&str, &str, &[usize]); 11] = [
        ("", "model.embed_tokens.weight", &[16, 8]),
        ("", "model.norm.weight", &[8]),
        (block, "input_layernorm.weight", &[8]),
        (block, "post_attention_layernorm.weight", &[8]),
        (block, "self_attn.q_proj.weight", &[8, 8]),
        (block, "self_attn.k_proj.weight", &[4, 8]),
        (block, "self_attn.v_proj.weight", &[4, 8]),
        (block, "self_attn.o_proj.weight", &[8, 8]),
        (block, "mlp.gate_proj.weight", &[16, 8]),
        (block, "mlp.up_proj.weight", &[16, 8]),
        (block, "mlp.down_proj.weight", &[8, 16]),
    ];
    let (mut map, mut at) = (Map::new(), 0);
    for (prefix, name, shape) in tensors {
        let end = at + 4 * shape.iter().product::<usize>();
        map.insert(
            format!("{prefix}{name}"),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]}),
        );
        at = end;
    }
    (Value::Object(map), at)
}

/// A good folder with some places of its two files spoilt, by the fuzzer's bytes.
fn spoilt(u: &mut Unstructured) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut config, (mut header, mut data_len)) = (config(), header());
    for _ in 0..u.int_in_range(0..=3)? {
        json::edit(u, &mut config, &WORDS)?;
    }
    for _ in 0..u.int_in_range(0..=3)? {
        json::edit(u, &mut header, &WORDS)?;
    }
    let mut text = header.to_string().into_bytes();
    if u.ratio(1, 16)? {
        let at = u.choose_index(text.len())?;
        text[at] = u.arbitrary()?;
    }
    let header_len = if u.ratio(1, 8)? { number(u)? } else { text.len() as u64 };
    if u.ratio(1, 8)? {
        data_len = number(u)? as usize % 8192;
    }
    let mut weights = header_len.to_le_bytes().to_vec();
    weights.extend(text);
    weights.resize(weights.len() + data_len, 0);
    Ok((config.to_string().into_bytes(), weights))
}

// Two files with a zero byte between them are taken as they are; anything else says how to spoil good ones.
fuzz_target!(|data: &[u8]| {
    let (config, weights) = match data.iter().position(|byte| *byte == 0) {
        Some(end) if data.starts_with(b"{") => (data[..end].to_vec(), data[end + 1..].to_vec()),
        _ => match spoilt(&mut Unstructured::new(data)) {
            Ok(files) => files,
            Err(_) => return,
        },
    };
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| tempfile::tempdir().expect("a folder for temporary files"));
        std::fs::write(folder.path().join("config.json"), config).expect("room for a small file");
        std::fs::write(folder.path().join("model.safetensors"), weights).expect("room for a small file");
        if let Ok((decoder, _)) = load_folder(folder.path()) {
            assert!(decoder.n_params() > 0);
        }
    });
});
