//! Model folders: `config.json` and the weights in safetensors files, loaded as a command would.

use crate::{in_folder, json, number};
use arbitrary::{Result, Unstructured};
use hearth_model::{EncoderFolder, load_folder};
use serde_json::{Map, Value, json};

const WORDS: [&str; 15] = [
    "gpt2",
    "openai-gpt",
    "llama",
    "qwen2",
    "qwen3",
    "gemma3_text",
    "bert",
    "F32",
    "F16",
    "BF16",
    "head_dim",
    "layer_types",
    "rope_parameters",
    "n_inner",
    "part-1.safetensors",
];

/// A tensor's name and shape.
type Tensor = (String, Vec<usize>);

/// The files of a folder, by name.
type Files = Vec<(&'static str, Vec<u8>)>;

fn decoder() -> (Value, Vec<Tensor>) {
    let config = json!({
        "model_type": "llama", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "hidden_act": "silu", "torch_dtype": "float32",
    });
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
    (config, tensors.map(|(prefix, name, shape)| (format!("{prefix}{name}"), shape.to_vec())).to_vec())
}

fn encoder() -> (Value, Vec<Tensor>) {
    let config = json!({
        "model_type": "bert", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
    });
    let mut tensors = Vec::new();
    for (table, rows) in [("word", 16), ("position", 32), ("token_type", 2)] {
        tensors.push((format!("embeddings.{table}_embeddings.weight"), vec![rows, 8]));
    }
    let layer = "encoder.layer.0.";
    for (part, rows, cols) in [
        ("attention.self.query", 8, 8),
        ("attention.self.key", 8, 8),
        ("attention.self.value", 8, 8),
        ("attention.output.dense", 8, 8),
        ("intermediate.dense", 16, 8),
        ("output.dense", 8, 16),
    ] {
        tensors.push((format!("{layer}{part}.weight"), vec![rows, cols]));
        tensors.push((format!("{layer}{part}.bias"), vec![rows]));
    }
    for norm in ["embeddings.", "encoder.layer.0.attention.output.", "encoder.layer.0.output."] {
        for end in ["weight", "bias"] {
            tensors.push((format!("{norm}LayerNorm.{end}"), vec![8]));
        }
    }
    (config, tensors)
}

/// A file's header, with the tensors one after the other, and the length of the data.
fn header(tensors: &[Tensor]) -> (Value, usize) {
    let (mut map, mut at) = (Map::new(), 0);
    for (name, shape) in tensors {
        let end = at + 4 * shape.iter().product::<usize>();
        map.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    (Value::Object(map), at)
}

fn weights(header_len: u64, header: &[u8], data_len: usize) -> Vec<u8> {
    let mut file = header_len.to_le_bytes().to_vec();
    file.extend(header);
    file.resize(file.len() + data_len, 0);
    file
}

/// A file of weights with some places of its header spoilt.
fn spoilt_weights(u: &mut Unstructured, tensors: &[Tensor]) -> Result<Vec<u8>> {
    let (mut header, mut data_len) = header(tensors);
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
    Ok(weights(header_len, &text, data_len))
}

/// A good folder with some places of its files spoilt: a decoder or an encoder, in one file or in two with an
/// index.
fn spoilt(u: &mut Unstructured) -> Result<Files> {
    let (mut config, tensors) = if u.ratio(1, 3)? { encoder() } else { decoder() };
    for _ in 0..u.int_in_range(0..=3)? {
        json::edit(u, &mut config, &WORDS)?;
    }
    let mut files = vec![("config.json", config.to_string().into_bytes())];
    if !u.ratio(1, 3)? {
        files.push(("model.safetensors", spoilt_weights(u, &tensors)?));
        return Ok(files);
    }
    let parts = ["part-1.safetensors", "part-2.safetensors"];
    let (one, two) = tensors.split_at(tensors.len() / 2);
    let map: Map<String, Value> = [(one, parts[0]), (two, parts[1])]
        .into_iter()
        .flat_map(|(tensors, part)| tensors.iter().map(move |(name, _)| (name.clone(), part.into())))
        .collect();
    let mut index = json!({"metadata": {"total_size": 0}, "weight_map": map});
    for _ in 0..u.int_in_range(0..=2)? {
        json::edit(u, &mut index, &WORDS)?;
    }
    files.push(("model.safetensors.index.json", index.to_string().into_bytes()));
    files.push((parts[0], spoilt_weights(u, one)?));
    files.push((parts[1], spoilt_weights(u, two)?));
    Ok(files)
}

/// A configuration and a file of weights with a zero byte between them are taken as they are; anything else
/// says how to spoil good ones.
pub fn run(data: &[u8]) {
    let files = match data.iter().position(|byte| *byte == 0) {
        Some(end) if data.starts_with(b"{") => {
            vec![("config.json", data[..end].to_vec()), ("model.safetensors", data[end + 1..].to_vec())]
        }
        _ => match spoilt(&mut Unstructured::new(data)) {
            Ok(files) => files,
            Err(_) => return,
        },
    };
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    in_folder(&files, |folder| {
        if let Ok((decoder, _)) = load_folder(folder) {
            assert!(decoder.n_params() > 0);
        }
        if let Ok(model) = EncoderFolder::open(folder) {
            assert!(model.encoder.n_params() > 0);
        }
    });
}

/// A decoder and an encoder.
pub fn seeds() -> Vec<Vec<u8>> {
    [decoder(), encoder()]
        .map(|(config, tensors)| {
            let (header, data_len) = header(&tensors);
            let header = header.to_string().into_bytes();
            let weights = weights(header.len() as u64, &header, data_len);
            [config.to_string().as_bytes(), &[0], &weights].concat()
        })
        .to_vec()
}
