//! An encoder as a GGUF file of architecture `bert`, as llama.cpp's converter writes it: without the pooler.

use super::encoder::gguf_name;
use super::save::{Extra, encoded};
use super::{GgufEncoder, GgufWriter, Mix};
use crate::encoder::{Encoder, EncoderFamily};
use crate::error::ModelError;
use crate::executor::{ParamId, ParamSpec};
use crate::source::Source;
use hearth_kernel::activation::Activation;
use hearth_kernel::quant::BlockType;
use std::path::Path;

/// Writes an encoder: matrices and the table of tokens in the type that most of a mix has, the rest in single
/// precision. `progress` hears how many tensors of how many are written.
///
/// # Errors
/// If it isn't a BERT with GELU as its activation, the weights aren't finite, or the file can't be written; what was at `path`
/// then stays.
pub fn save_gguf_encoder(
    path: &Path,
    encoder: &Encoder,
    source: &dyn Source,
    mix: Mix,
    extra: Extra,
    mut progress: impl FnMut(usize, usize),
) -> Result<(), ModelError> {
    let config = encoder.config();
    if config.family != EncoderFamily::Bert {
        let problem = format!("a {} can't be written as GGUF, only a bert can", config.family.model_type());
        return Err(ModelError::Config { place: path.display().to_string(), problem });
    }
    if config.activation != Activation::GeluErf {
        return Err(ModelError::Config {
            place: path.display().to_string(),
            problem: "GGUF's bert has GELU as its activation, this model has another".into(),
        });
    }
    let mut writer = GgufWriter::new();
    let key = |rest: &str| format!("{}.{rest}", GgufEncoder::ARCHITECTURE);
    writer.set("general.architecture", GgufEncoder::ARCHITECTURE)?;
    extra(&mut writer)?;
    let sizes = [
        ("block_count", config.n_layers),
        ("context_length", config.max_positions),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.n_heads),
    ];
    for (rest, size) in sizes {
        writer.set(&key(rest), size as u32)?;
    }
    writer.set(&key("attention.layer_norm_epsilon"), config.norm_eps)?;
    writer.set(&key("attention.causal"), false)?;
    writer.set("tokenizer.ggml.token_type_count", config.n_types as u32)?;
    writer.set("general.quantization_version", 2u32)?;
    writer.set("general.file_type", mix.file_type())?;
    let written: Vec<(ParamId, &ParamSpec)> = (0..)
        .map(ParamId)
        .zip(encoder.specs())
        .filter(|(_, spec)| !spec.name.starts_with("pooler."))
        .collect();
    for (_, spec) in &written {
        let dims: Vec<usize> = spec.shape.iter().rev().copied().collect();
        writer.declare(&gguf_name(&spec.name), &dims, kind_of(mix, spec))?;
    }
    let mut next = 0;
    writer.write(path, |tensor, out| {
        let (id, spec) = written[next];
        next += 1;
        progress(next, written.len());
        let cols = spec.shape[spec.shape.len() - 1];
        Ok(out.write_all(&encoded(path, tensor, &source.stored(id).values(), cols, None)?)?)
    })
}

/// Vectors, positions and token types stay in single precision.
fn kind_of(mix: Mix, spec: &ParamSpec) -> BlockType {
    let precise = ["position_embeddings", "token_type_embeddings"];
    match spec.shape[..] {
        [_, cols] if !precise.iter().any(|table| spec.name.contains(table)) => mix.base_kind(cols),
        _ => BlockType::F32,
    }
}
