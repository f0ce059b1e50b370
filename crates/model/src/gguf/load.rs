//! A decoder out of a GGUF file: its configuration from the metadata, its parameters where they lie.
//!
//! Keys and tensor names are those of the GGUF specification ("Standardized key-value pairs",
//! "Standardized tensor names") and, where that is silent, of llama.cpp's converter.

use super::{Gguf, TensorInfo};
use crate::config::{DecoderConfig, Family, Sliding};
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::executor::{ParamId, ParamSpec};
use crate::rope_scaling::RopeScaling;
use crate::source::{RowOrder, Rows, Source, Stored};
use hearth_kernel::activation::Activation;
use hearth_kernel::quant::BlockType;
use std::collections::HashSet;

/// What runs here, by the name that `general.architecture` has.
const ARCHITECTURES: [(&str, Family); 5] = [
    ("gpt2", Family::Gpt2),
    ("llama", Family::Llama),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("gemma3", Family::Gemma3),
];

/// The tensor of what each rotary frequency is divided by.
pub(super) const DIVISORS: &str = "rope_freqs.weight";

/// What is wrong with an encoder where a decoder is wanted.
const ENCODER: &str =
    "a bert is an encoder: it embeds texts, and can't continue them\nhint: hearth embed runs it";

/// A decoder in a GGUF file.
#[derive(Debug)]
pub struct GgufModel {
    file: Gguf,
    decoder: Decoder,
    params: Vec<Rows>,
}

impl GgufModel {
    /// Describes the model in a file, and finds all its parameters.
    ///
    /// # Errors
    /// If the architecture isn't one that runs here, a setting isn't understood, or a tensor is missing, has
    /// another shape, or belongs to nothing.
    pub fn new(file: Gguf) -> Result<Self, ModelError> {
        let decoder = Decoder::new(config(&file)?)?;
        let head_dim = decoder.config().head_dim;
        let mut params = Vec::with_capacity(decoder.specs().len());
        let mut names = HashSet::with_capacity(decoder.specs().len());
        for spec in decoder.specs() {
            let name = gguf_name(decoder.config().family, &spec.name);
            let tensor = file.require(&name)?;
            check_shape(&file, decoder.config().family, spec, &name, tensor)?;
            let order = match is_rotated(decoder.config().family, &spec.name) {
                true => RowOrder::Interleaved { head_dim },
                false => RowOrder::Same,
            };
            let transposed = is_in_out(decoder.config().family, spec);
            let (range, cols) = (tensor.range(), tensor.row_len());
            params.push(Rows::new(file.shared_bytes(), range, tensor.kind, cols, order, transposed));
            names.insert(name);
        }
        for name in file.tensor_names() {
            if !names.contains(name) && name != DIVISORS {
                return Err(problem(&file, format!("tensor {name} belongs to no part of such a model")));
            }
        }
        Ok(GgufModel { file, decoder, params })
    }

    /// What GGUF calls an architecture, if it has it.
    pub fn architecture(family: Family) -> Option<&'static str> {
        ARCHITECTURES.into_iter().find(|(_, known)| *known == family).map(|(name, _)| name)
    }

    /// What scores are scaled by: the size of a head but in Gemma's 27B model, which llama.cpp knows by its
    /// number of blocks.
    pub(super) fn query_scalar(config: &DecoderConfig) -> f32 {
        match config.n_layers {
            62 => config.hidden_size as f32 / config.n_heads as f32,
            _ => config.head_dim as f32,
        }
    }

    /// The file.
    pub fn file(&self) -> &Gguf {
        &self.file
    }

    /// The description.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }
}

impl Source for GgufModel {
    fn stored(&self, id: ParamId) -> Stored<'_> {
        Stored::File(self.params[id.0].clone())
    }
}

pub(super) fn problem(file: &Gguf, problem: String) -> ModelError {
    ModelError::Weights { file: file.path().to_owned(), problem }
}

/// Whether a parameter's rows are those of heads that llama.cpp rotates pair by pair.
pub(super) fn is_rotated(family: Family, name: &str) -> bool {
    family == Family::Llama && [".q_proj.", ".k_proj."].iter().any(|part| name.contains(part))
}

/// Whether a matrix is [in, out] in the model.
pub(super) fn is_in_out(family: Family, spec: &ParamSpec) -> bool {
    family.stores_in_out() && spec.shape.len() == 2 && spec.name.starts_with("transformer.h.")
}

/// Matrices are [out, in] in a GGUF file, GPT-2's too.
fn check_shape(
    file: &Gguf,
    family: Family,
    spec: &ParamSpec,
    name: &str,
    tensor: &TensorInfo,
) -> Result<(), ModelError> {
    let got = tensor.shape();
    let transposed: Vec<usize> = spec.shape.iter().rev().copied().collect();
    let expected = if is_in_out(family, spec) { &transposed } else { &spec.shape };
    if got != *expected {
        return Err(problem(file, format!("tensor {name}: expected shape {expected:?}, got {got:?}")));
    }
    Ok(())
}

/// The name of a tensor that `transformers` calls `name`.
pub(super) fn gguf_name(family: Family, name: &str) -> String {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, "weight"));
    let outside = match stem {
        "model.embed_tokens" | "transformer.wte" => Some("token_embd"),
        "transformer.wpe" => Some("position_embd"),
        "model.norm" | "transformer.ln_f" => Some("output_norm"),
        "lm_head" => Some("output"),
        _ => None,
    };
    if let Some(outside) = outside {
        return format!("{outside}.{end}");
    }
    let inside = stem.strip_prefix("model.layers.").or_else(|| stem.strip_prefix("transformer.h."));
    let (block, part) = inside.and_then(|rest| rest.split_once('.')).unwrap_or(("", stem));
    let part = match (part, family) {
        ("input_layernorm" | "ln_1", _) => "attn_norm",
        ("self_attn.q_proj", _) => "attn_q",
        ("self_attn.k_proj", _) => "attn_k",
        ("self_attn.v_proj", _) => "attn_v",
        ("self_attn.o_proj" | "attn.c_proj", _) => "attn_output",
        ("self_attn.q_norm", _) => "attn_q_norm",
        ("self_attn.k_norm", _) => "attn_k_norm",
        ("attn.c_attn", _) => "attn_qkv",
        ("post_attention_layernorm", Family::Gemma3) => "post_attention_norm",
        ("post_feedforward_layernorm", _) => "post_ffw_norm",
        ("pre_feedforward_layernorm" | "post_attention_layernorm" | "ln_2", _) => "ffn_norm",
        ("mlp.gate_proj", _) => "ffn_gate",
        ("mlp.up_proj" | "mlp.c_fc", _) => "ffn_up",
        ("mlp.down_proj" | "mlp.c_proj", _) => "ffn_down",
        (other, _) => other,
    };
    format!("blk.{block}.{part}.{end}")
}

fn config(file: &Gguf) -> Result<DecoderConfig, ModelError> {
    let name: &str = file.get("general.architecture")?;
    if name == super::GgufEncoder::ARCHITECTURE {
        return Err(problem(file, ENCODER.into()));
    }
    let Some(&(_, family)) = ARCHITECTURES.iter().find(|(known, _)| *known == name) else {
        let known = ARCHITECTURES.map(|(name, _)| name).join(", ");
        return Err(problem(file, format!("architecture {name:?} doesn't run here\nhint: {known} do")));
    };
    let key = |rest: &str| format!("{name}.{rest}");
    let size = |rest: &str| file.get::<usize>(&key(rest));
    let size_or =
        |rest: &str, default| Ok::<_, ModelError>(file.find::<usize>(&key(rest))?.unwrap_or(default));
    let number_or =
        |rest: &str, default| Ok::<_, ModelError>(file.find::<f32>(&key(rest))?.unwrap_or(default));
    refuse_unknown(file, name)?;
    let (hidden_size, n_heads) = (size("embedding_length")?, size("attention.head_count")?);
    let head_dim = size_or("attention.key_length", hidden_size / n_heads.max(1))?;
    let vocab_size = file.require("token_embd.weight")?.rows();
    let gpt = family.is_gpt();
    let eps = if gpt { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
    let rope_theta = if gpt { 0.0 } else { number_or("rope.freq_base", 10_000.0)? };
    let sliding = match family {
        Family::Gemma3 => Some(Sliding {
            window: size("attention.sliding_window")?,
            every: size_or("attention.sliding_window_pattern", 6)?,
            rope_theta: number_or("rope.freq_base_swa", 10_000.0)?,
        }),
        Family::Llama => file.find::<usize>(&key("attention.sliding_window"))?.map(|window| Sliding {
            window,
            every: Sliding::ALL,
            rope_theta,
        }),
        _ => None,
    };
    for (rest, expected) in [("rope.dimension_count", head_dim), ("attention.value_length", head_dim)] {
        let got = size_or(rest, expected)?;
        if !gpt && got != expected {
            return Err(problem(file, format!("key {}: expected {expected}, got {got}", key(rest))));
        }
    }
    let mut config = DecoderConfig {
        family,
        vocab_size,
        hidden_size,
        intermediate_size: size("feed_forward_length")?,
        n_layers: size("block_count")?,
        n_heads,
        n_kv_heads: size_or("attention.head_count_kv", n_heads)?,
        head_dim,
        max_positions: size("context_length")?,
        norm_eps: number_or(eps, if gpt { 1e-5 } else { 1e-6 })?,
        rope_theta,
        activation: match family {
            Family::Gpt1 | Family::Gpt2 | Family::Gemma3 => Activation::GeluTanh,
            Family::Llama | Family::Qwen2 | Family::Qwen3 => Activation::Silu,
        },
        biases: gpt || family == Family::Qwen2,
        tied_head: file.tensor("output.weight")?.is_none(),
        sliding,
        query_scalar: None,
        rope_scaling: None,
    };
    if family == Family::Gemma3 {
        config.query_scalar = Some(GgufModel::query_scalar(&config));
    }
    // Once for the sizes, before anything is as large as they say, and once for the scaling.
    let validate =
        |config: &DecoderConfig| config.validate().map_err(|error| problem(file, error.to_string()));
    validate(&config)?;
    config.rope_scaling = rope_scaling(file, name, &config)?;
    validate(&config)?;
    Ok(config)
}

/// Scaling of the rotary embedding: by one factor, which keys have, or by a tensor of divisors.
fn rope_scaling(file: &Gguf, name: &str, config: &DecoderConfig) -> Result<Option<RopeScaling>, ModelError> {
    let key = format!("{name}.rope.scaling.type");
    let by_key = match file.find::<&str>(&key)? {
        None | Some("none") => None,
        Some("linear") => {
            Some(RopeScaling::Linear { factor: file.get(&format!("{name}.rope.scaling.factor"))? })
        }
        Some(kind) => {
            return Err(problem(
                file,
                format!("key {key}: {kind:?} isn't supported, only \"none\" and \"linear\" are"),
            ));
        }
    };
    let Some(tensor) = file.tensor(DIVISORS)? else { return Ok(by_key) };
    if config.family != Family::Llama || by_key.is_some() || tensor.kind != BlockType::F32 {
        return Err(problem(
            file,
            format!("tensor {DIVISORS}: expected it in F32, in a llama without {key}, got {}", tensor.kind),
        ));
    }
    let divisors: Vec<f32> =
        file.bytes(tensor).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Ok(Some(RopeScaling::of_divisors(divisors, &config.rope_frequencies(false))))
}

/// Experts and soft caps would change the result, and aren't understood here.
fn refuse_unknown(file: &Gguf, name: &str) -> Result<(), ModelError> {
    for rest in ["expert_count", "attn_logit_softcapping", "final_logit_softcapping"] {
        let key = format!("{name}.{rest}");
        let set = file.find::<f32>(&key).ok().flatten().is_some_and(|x| x != 0.0)
            || file.find::<usize>(&key).ok().flatten().is_some_and(|x| x != 0);
        if set {
            return Err(problem(file, format!("key {key} isn't supported")));
        }
    }
    Ok(())
}
