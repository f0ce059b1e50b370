//! GGUF files: read, every value and tensor looked at, described as a model, and opened as a command would.

use crate::{in_folder, number, text};
use arbitrary::{Result, Unstructured};
use hearth_engine::ModelFiles;
use hearth_model::gguf::{Gguf, GgufEncoder, GgufModel, Value};
use std::path::Path;

fn look_at(value: Value) -> usize {
    match value {
        Value::Array(array) => array.iter().take(1000).map(look_at).sum(),
        Value::Str(bytes) => bytes.len(),
        _ => 1,
    }
}

fn read(bytes: Vec<u8>) {
    let parse = || Gguf::parse(bytes.clone(), Path::new("fuzzed.gguf"));
    let Ok(file) = parse() else { return };
    for key in file.keys() {
        look_at(file.value(key).expect("a key that was listed is there"));
    }
    for tensor in file.tensors().flatten() {
        assert_eq!(file.bytes(tensor).len(), tensor.byte_len());
    }
    if let Ok(encoder) = GgufEncoder::new(file) {
        assert!(encoder.encoder().n_params() > 0);
    }
    if let Ok(model) = parse().and_then(GgufModel::new) {
        assert!(model.decoder().n_params() > 0);
        in_folder(&[("fuzzed.gguf", &bytes)], |folder| {
            let _ = ModelFiles::open(&folder.join("fuzzed.gguf"));
        });
    }
}

/// What begins as a GGUF file is taken as it is; anything else says how to spoil a good one.
pub fn run(data: &[u8]) {
    if data.starts_with(b"GGUF") {
        read(data.to_vec());
    } else if let Ok(bytes) = file(&mut Unstructured::new(data)) {
        read(bytes);
    }
}

/// A good file of each architecture.
pub fn seeds() -> Vec<Vec<u8>> {
    ARCHITECTURES.map(|architecture| Draft::model(architecture).whole()).to_vec()
}

/// The keys and tensors of a file, in its own bytes, and the counts that it announces.
struct Draft {
    keys: Vec<Vec<u8>>,
    tensors: Vec<Tensor>,
    data_len: u64,
}

#[derive(Clone)]
struct Tensor {
    name: String,
    dims: Vec<u64>,
    kind: u32,
    offset: u64,
}

const STRING: u32 = 8;
const U32: u32 = 4;
const F32: u32 = 6;
const ARRAY: u32 = 9;

fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    string(&mut out, name.as_bytes());
    out.extend(kind.to_le_bytes());
    out.extend(value);
    out
}

/// The keys that say how large a model is.
const SIZES: [&str; 9] = [
    "embedding_length",
    "feed_forward_length",
    "block_count",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "context_length",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
];

const ARCHITECTURES: [&str; 6] = ["llama", "qwen2", "qwen3", "gemma3", "gpt2", "bert"];

/// Tokens of the models.
const TOKENS: [&str; 16] = [
    "<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁a", "▁ab", "[CLS]", "[SEP]", "[UNK]", "<0x0A>", "c", "bc",
    "abc",
];

impl Draft {
    /// One block of width 8 and 16 tokens, of one of the architectures.
    fn model(architecture: &str) -> Self {
        let mut name = Vec::new();
        string(&mut name, architecture.as_bytes());
        let mut keys = vec![key("general.architecture", STRING, &name)];
        for (size, value) in SIZES.iter().zip([8u32, 16, 1, 2, 1, 4, 64, 8, 6]) {
            keys.push(key(&format!("{architecture}.{size}"), U32, &value.to_le_bytes()));
        }
        for eps in ["attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "rope.freq_base"] {
            keys.push(key(&format!("{architecture}.{eps}"), F32, &1e-5f32.to_le_bytes()));
        }
        keys.extend(tokenizer(if architecture == "bert" { "bert" } else { "llama" }));
        let mut draft = Draft { keys, tensors: Vec::new(), data_len: 0 };
        match architecture {
            "gpt2" => draft.gpt2(),
            "bert" => draft.bert(),
            _ => draft.llama(architecture),
        }
        draft
    }

    fn llama(&mut self, architecture: &str) {
        self.tensor("token_embd.weight", &[8, 16]);
        self.tensor("output_norm.weight", &[8]);
        let norms = match architecture {
            "gemma3" => &["attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm"][..],
            _ => &["attn_norm", "ffn_norm"],
        };
        for norm in norms {
            self.tensor(&format!("blk.0.{norm}.weight"), &[8]);
        }
        let parts: [(&str, [u64; 2]); 7] = [
            ("attn_q", [8, 8]),
            ("attn_k", [8, 4]),
            ("attn_v", [8, 4]),
            ("attn_output", [8, 8]),
            ("ffn_gate", [8, 16]),
            ("ffn_up", [8, 16]),
            ("ffn_down", [16, 8]),
        ];
        for (part, dims) in parts {
            self.tensor(&format!("blk.0.{part}.weight"), &dims);
        }
        if matches!(architecture, "qwen3" | "gemma3") {
            self.tensor("blk.0.attn_q_norm.weight", &[4]);
            self.tensor("blk.0.attn_k_norm.weight", &[4]);
        }
        if architecture == "qwen2" {
            for (part, len) in [("attn_q", 8), ("attn_k", 4), ("attn_v", 4)] {
                self.tensor(&format!("blk.0.{part}.bias"), &[len]);
            }
        }
    }

    fn gpt2(&mut self) {
        self.tensor("token_embd.weight", &[8, 16]);
        self.tensor("position_embd.weight", &[8, 64]);
        self.with_bias(&[
            ("output_norm", &[8]),
            ("blk.0.attn_norm", &[8]),
            ("blk.0.ffn_norm", &[8]),
            ("blk.0.attn_qkv", &[8, 24]),
            ("blk.0.attn_output", &[8, 8]),
            ("blk.0.ffn_up", &[8, 16]),
            ("blk.0.ffn_down", &[16, 8]),
        ]);
    }

    fn bert(&mut self) {
        for (table, rows) in [("token_embd", 16), ("position_embd", 64), ("token_types", 2)] {
            self.tensor(&format!("{table}.weight"), &[8, rows]);
        }
        self.with_bias(&[
            ("token_embd_norm", &[8]),
            ("blk.0.attn_q", &[8, 8]),
            ("blk.0.attn_k", &[8, 8]),
            ("blk.0.attn_v", &[8, 8]),
            ("blk.0.attn_output", &[8, 8]),
            ("blk.0.attn_output_norm", &[8]),
            ("blk.0.ffn_up", &[8, 16]),
            ("blk.0.ffn_down", &[16, 8]),
            ("blk.0.layer_output_norm", &[8]),
        ]);
    }

    fn with_bias(&mut self, parts: &[(&str, &[u64])]) {
        for (part, dims) in parts {
            self.tensor(&format!("{part}.weight"), dims);
            self.tensor(&format!("{part}.bias"), &dims[dims.len() - 1..]);
        }
    }

    /// The file, with its true counts.
    fn whole(&self) -> Vec<u8> {
        self.bytes(self.tensors.len() as u64, self.keys.len() as u64)
    }

    /// Puts a tensor of 32-bit floats behind the others.
    fn tensor(&mut self, name: &str, dims: &[u64]) {
        let offset = self.data_len;
        self.tensors.push(Tensor { name: name.into(), dims: dims.to_vec(), kind: 0, offset });
        self.data_len += (4 * dims.iter().product::<u64>()).next_multiple_of(32);
    }

    fn spoil(&mut self, u: &mut Unstructured) -> Result<()> {
        let tensor = u.choose_index(self.tensors.len())?;
        match u.int_in_range(0..=8)? {
            0 => {
                let size = u.choose_index(SIZES.len())?;
                let value = number(u)?;
                // The name has the architecture in front, which stays.
                let old = &self.keys[1 + size];
                let name_len = 8 + u64::from_le_bytes(old[..8].try_into().unwrap_or_default()) as usize;
                let mut new = old[..name_len].to_vec();
                new.extend(10u32.to_le_bytes());
                new.extend(value.to_le_bytes());
                self.keys[1 + size] = new;
            }
            1 => self.keys.push(any_key(u)?),
            2 => drop(self.keys.remove(u.choose_index(self.keys.len())?)),
            3 => self.tensors[tensor].offset = number(u)?,
            4 => {
                let dims = u.int_in_range(0..=5)?;
                self.tensors[tensor].dims = (0..dims).map(|_| number(u)).collect::<Result<_>>()?;
            }
            5 => self.tensors[tensor].kind = u.int_in_range(0..=40)?,
            6 => {
                let copy = self.tensors[tensor].clone();
                self.tensors.push(copy);
            }
            7 => self.tensors[tensor].name = text(u)?,
            _ => self.data_len = number(u)? % 8192,
        }
        if self.tensors.is_empty() || self.keys.len() < 1 + SIZES.len() {
            // Enough is left for the next edit.
            self.tensor("spare", &[8]);
            self.keys.resize(1 + SIZES.len(), key("spare", U32, &[0; 4]));
        }
        Ok(())
    }

    fn bytes(&self, n_tensors: u64, n_keys: u64) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(n_tensors.to_le_bytes());
        out.extend(n_keys.to_le_bytes());
        out.extend(self.keys.concat());
        for tensor in &self.tensors {
            string(&mut out, tensor.name.as_bytes());
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|size| out.extend(size.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.resize(out.len() + self.data_len as usize, 0);
        out
    }
}

/// The keys of a vocabulary.
fn tokenizer(model: &str) -> Vec<Vec<u8>> {
    let array = |kind: u32, elements: Vec<u8>| {
        let mut out = kind.to_le_bytes().to_vec();
        out.extend((TOKENS.len() as u64).to_le_bytes());
        out.extend(elements);
        out
    };
    let (mut name, mut tokens) = (Vec::new(), Vec::new());
    string(&mut name, model.as_bytes());
    TOKENS.iter().for_each(|token| string(&mut tokens, token.as_bytes()));
    let scores = (0..16u8).flat_map(|i| (-f32::from(i)).to_le_bytes()).collect();
    vec![
        key("tokenizer.ggml.model", STRING, &name),
        key("tokenizer.ggml.tokens", ARRAY, &array(STRING, tokens)),
        key("tokenizer.ggml.scores", ARRAY, &array(F32, scores)),
        key("tokenizer.ggml.eos_token_id", U32, &2u32.to_le_bytes()),
    ]
}

/// A key of any type; arrays within arrays, and lengths that may be wrong.
fn any_key(u: &mut Unstructured) -> Result<Vec<u8>> {
    let names = ["general.alignment", "tokenizer.ggml.tokens", "llama.rope.scaling.type", "x"];
    let name = *u.choose(&names)?;
    let kind = u.int_in_range(0..=13)?;
    let mut value = Vec::new();
    if kind == ARRAY {
        for _ in 0..u.int_in_range(0..=5)? {
            value.extend(ARRAY.to_le_bytes());
            value.extend(number(u)?.to_le_bytes());
        }
        value.extend(u.int_in_range(0..=13u32)?.to_le_bytes());
    }
    if kind == STRING || kind == ARRAY {
        value.extend(number(u)?.to_le_bytes());
    }
    value.extend(u.bytes(u.len().min(8))?);
    Ok(key(name, kind, &value))
}

/// A file as the fuzzer's bytes say: an architecture, some edits, wrong counts, bytes changed, an end cut off.
fn file(u: &mut Unstructured) -> Result<Vec<u8>> {
    let mut draft = Draft::model(u.choose(&ARCHITECTURES)?);
    for _ in 0..u.int_in_range(0..=4)? {
        draft.spoil(u)?;
    }
    let mut counts = [draft.tensors.len() as u64, draft.keys.len() as u64];
    if u.ratio(1, 8)? {
        counts[u.choose_index(2)?] = number(u)?;
    }
    let mut bytes = draft.bytes(counts[0], counts[1]);
    for _ in 0..u.int_in_range(0..=3)? {
        let at = u.choose_index(bytes.len())?;
        bytes[at] = u.arbitrary()?;
    }
    if u.ratio(1, 8)? {
        let len = u.choose_index(bytes.len())?;
        bytes.truncate(len);
    }
    Ok(bytes)
}
