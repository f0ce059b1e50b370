//! An encoder out of a GGUF file of architecture `bert`.

use super::Gguf;
use super::load::problem;
use crate::encoder::{Encoder, EncoderConfig};
use crate::error::ModelError;
use crate::executor::ParamId;
use crate::source::{RowOrder, Rows, Source, Stored};
use std::collections::HashSet;

/// An encoder in a GGUF file.
#[derive(Debug)]
pub struct GgufEncoder {
    file: Gguf,
    encoder: Encoder,
    params: Vec<Rows>,
}

impl GgufEncoder {
    /// The architecture's name.
    pub const ARCHITECTURE: &str = "bert";

    /// Describes the model in a file, and finds all its parameters.
    ///
    /// # Errors
    /// If the architecture isn't `bert`, or a tensor is missing, has another shape, or belongs to nothing.
    pub fn new(file: Gguf) -> Result<Self, ModelError> {
        let encoder = Encoder::new(config(&file)?)?;
        let mut params = Vec::with_capacity(encoder.specs().len());
        let mut names = HashSet::with_capacity(encoder.specs().len());
        for spec in encoder.specs() {
            let name = gguf_name(&spec.name);
            let tensor = file.require(&name)?;
            if tensor.shape() != spec.shape {
                let (expected, got) = (&spec.shape, tensor.shape());
                return Err(problem(
                    &file,
                    format!("tensor {name}: expected shape {expected:?}, got {got:?}"),
                ));
            }
            let (range, cols) = (tensor.range(), tensor.row_len());
            params.push(Rows::new(file.shared_bytes(), range, tensor.kind, cols, RowOrder::Same, false));
            names.insert(name);
        }
        if let Some(name) = file.tensor_names().find(|name| !names.contains(*name)) {
            return Err(problem(&file, format!("tensor {name} belongs to no part of such a model")));
        }
        Ok(GgufEncoder { file, encoder, params })
    }

    /// The file.
    pub fn file(&self) -> &Gguf {
        &self.file
    }

    /// The description.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }
}

impl Source for GgufEncoder {
    fn stored(&self, id: ParamId) -> Stored<'_> {
        Stored::File(self.params[id.index()].clone())
    }
}

fn config(file: &Gguf) -> Result<EncoderConfig, ModelError> {
    let name: &str = file.get("general.architecture")?;
    if name != GgufEncoder::ARCHITECTURE {
        return Err(problem(file, format!("architecture {name:?} isn't an encoder that runs here")));
    }
    let size = |rest: &str| file.get::<usize>(&format!("{name}.{rest}"));
    if file.find::<bool>("bert.attention.causal")? == Some(true) {
        return Err(problem(file, "key bert.attention.causal: expected false, got true".into()));
    }
    let vocab_size = file.require("token_embd.weight")?.rows();
    let (hidden_size, n_layers) = (size("embedding_length")?, size("block_count")?);
    let (n_heads, positions) = (size("attention.head_count")?, size("context_length")?);
    // llama.cpp's converter leaves a pooler out.
    let config = EncoderConfig {
        intermediate_size: size("feed_forward_length")?,
        n_types: file.require("token_types.weight")?.rows(),
        norm_eps: file.find::<f32>("bert.attention.layer_norm_epsilon")?.unwrap_or(1e-12),
        ..EncoderConfig::bert(vocab_size, hidden_size, n_layers, n_heads, positions)
    };
    config.validate().map_err(|error| problem(file, error.to_string()))?;
    Ok(config)
}

/// The name of a tensor that `transformers` calls `name`.
pub(super) fn gguf_name(name: &str) -> String {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, "weight"));
    let outside = match stem {
        "embeddings.word_embeddings" => "token_embd",
        "embeddings.position_embeddings" => "position_embd",
        "embeddings.token_type_embeddings" => "token_types",
        "embeddings.LayerNorm" => "token_embd_norm",
        _ => "",
    };
    if !outside.is_empty() {
        return format!("{outside}.{end}");
    }
    let inside = stem.strip_prefix("encoder.layer.").and_then(|rest| rest.split_once('.'));
    let (block, part) = inside.unwrap_or(("", stem));
    let part = match part {
        "attention.self.query" => "attn_q",
        "attention.self.key" => "attn_k",
        "attention.self.value" => "attn_v",
        "attention.output.dense" => "attn_output",
        "attention.output.LayerNorm" => "attn_output_norm",
        "intermediate.dense" => "ffn_up",
        "output.dense" => "ffn_down",
        "output.LayerNorm" => "layer_output_norm",
        other => other,
    };
    format!("blk.{block}.{part}.{end}")
}
