//! A decoder as a GGUF file that llama.cpp runs: metadata, names, orders and types as its converter writes
//! them.

use super::load::{DIVISORS, gguf_name, is_in_out, is_rotated};
use super::{GgufModel, GgufWriter, TensorInfo};
use crate::config::{DecoderConfig, Family, Sliding};
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::executor::{ParamId, ParamSpec};
use crate::gguf::Mix;
use crate::rope_scaling::RopeScaling;
use crate::source::{RowOrder, Source};
use hearth_kernel::quant::{BlockType, quantize};
use std::path::Path;

/// Values of a row that weigh more when it is quantised, one a column: the importance of each parameter that
/// has one.
pub type Importance<'a> = &'a dyn Fn(ParamId) -> Option<&'a [f32]>;

/// What a file says about its model beside the weights: the tokenizer, a name.
pub type Extra<'a> = &'a dyn Fn(&mut GgufWriter) -> Result<(), ModelError>;

/// Writes a decoder in the types of a mix. `progress` hears how many tensors of how many are written.
///
/// # Errors
/// If GGUF has no such architecture, the weights aren't finite, or the file can't be written; what was at
/// `path` then stays.
pub fn save_gguf(
    path: &Path,
    decoder: &Decoder,
    source: &dyn Source,
    mix: Mix,
    importance: Importance,
    extra: Extra,
    mut progress: impl FnMut(usize, usize),
) -> Result<(), ModelError> {
    let mut config = decoder.config().clone();
    let Some(architecture) = GgufModel::architecture(config.family) else {
        return Err(ModelError::Config {
            place: path.display().to_string(),
            problem: format!(
                "GGUF has no architecture for {}\nhint: gpt2, llama, qwen2, qwen3 and gemma3 can be written",
                config.family.model_type()
            ),
        });
    };
    if config.query_scalar.is_some_and(|x| x != GgufModel::query_scalar(&config)) {
        return Err(ModelError::Config {
            place: path.display().to_string(),
            problem: "GGUF has no key for a query_pre_attn_scalar other than the published models'".into(),
        });
    }
    let divisors = divisors(path, &config)?;
    // llama.cpp expects GPT-2's biases, whether or not they were trained.
    config.biases |= config.family.is_gpt();
    let published = Decoder::new(config.clone())?;
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", architecture)?;
    extra(&mut writer)?;
    describe(&mut writer, architecture, &config, mix)?;
    let trained = |name: &str| decoder.specs().iter().position(|spec| spec.name == name).map(ParamId);
    for spec in published.specs() {
        let (rows, cols) = shape_of(spec, config.family);
        let kind = mix.kind_of(&config, spec, cols);
        let dims: &[usize] = if spec.shape.len() == 1 { &[cols] } else { &[cols, rows] };
        writer.declare(&gguf_name(config.family, &spec.name), dims, kind)?;
    }
    if !divisors.is_empty() {
        writer.declare(DIVISORS, &[divisors.len()], BlockType::F32)?;
    }
    let (mut next, total) = (0, published.specs().len());
    writer.write(path, |tensor, out| {
        let Some(spec) = published.specs().get(next) else {
            let bytes: Vec<u8> = divisors.iter().flat_map(|x| x.to_le_bytes()).collect();
            return Ok(out.write_all(&bytes)?);
        };
        next += 1;
        progress(next, total);
        let (rows, cols) = shape_of(spec, config.family);
        let id = trained(&spec.name);
        let values = match id {
            Some(id) => in_file_order(&source.stored(id).values(), spec, &config),
            None => vec![0.0; rows * cols],
        };
        Ok(out.write_all(&encoded(path, tensor, &values, cols, id.and_then(importance))?)?)
    })
}

/// A tensor's values, rows of `cols`, as the bytes of its type.
pub(super) fn encoded(
    path: &Path,
    tensor: &TensorInfo,
    values: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<u8>, ModelError> {
    let mut bytes = vec![0; tensor.byte_len()];
    quantize(tensor.kind, values, cols, importance, &mut bytes).map_err(|error| ModelError::Weights {
        file: path.to_owned(),
        problem: format!("tensor {}: {error}", tensor.name),
    })?;
    Ok(bytes)
}

/// What the rotary frequencies are divided by where that is more than one factor; llama.cpp has a tensor for it
/// in its `llama` alone.
fn divisors(path: &Path, config: &DecoderConfig) -> Result<Vec<f32>, ModelError> {
    match &config.rope_scaling {
        None | Some(RopeScaling::Linear { .. }) => Ok(Vec::new()),
        Some(scaling) if config.family == Family::Llama => {
            let plain = DecoderConfig { rope_scaling: None, ..config.clone() }.rope_frequencies(false);
            Ok(scaling.divisors(&plain))
        }
        Some(_) => Err(ModelError::Config {
            place: path.display().to_string(),
            problem: format!(
                "GGUF has no place for this scaling of the rotary embedding in a {}",
                config.family.model_type()
            ),
        }),
    }
}

/// Rows and columns in the file, where matrices are [out, in].
fn shape_of(spec: &ParamSpec, family: Family) -> (usize, usize) {
    match spec.shape[..] {
        [cols] => (1, cols),
        [inputs, outputs] if is_in_out(family, spec) => (outputs, inputs),
        [rows, cols] => (rows, cols),
        ref other => unreachable!("parameters have one or two dimensions, got {other:?}"),
    }
}

/// A parameter's values as the file has them: rows of outputs, Llama's rotated heads interleaved.
fn in_file_order(values: &[f32], spec: &ParamSpec, config: &DecoderConfig) -> Vec<f32> {
    let (rows, cols) = shape_of(spec, config.family);
    if is_in_out(config.family, spec) {
        let mut out = vec![0.0; values.len()];
        for (row, out) in out.chunks_exact_mut(cols).enumerate() {
            out.iter_mut().enumerate().for_each(|(col, x)| *x = values[col * rows + row]);
        }
        return out;
    }
    if !is_rotated(config.family, &spec.name) {
        return values.to_vec();
    }
    let (order, cols) =
        (RowOrder::Interleaved { head_dim: config.head_dim }, if spec.shape.len() == 1 { 1 } else { cols });
    let mut out = vec![0.0; values.len()];
    for (row, values) in values.chunks_exact(cols).enumerate() {
        out[order.row_of(row) * cols..][..cols].copy_from_slice(values);
    }
    out
}

/// The architecture's settings.
fn describe(
    writer: &mut GgufWriter,
    architecture: &str,
    config: &DecoderConfig,
    mix: Mix,
) -> Result<(), ModelError> {
    let gpt = config.family.is_gpt();
    let key = |rest: &str| format!("{architecture}.{rest}");
    let sizes = [
        ("block_count", config.n_layers),
        ("context_length", config.max_positions),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.n_heads),
        ("vocab_size", config.vocab_size),
    ];
    for (rest, size) in sizes {
        writer.set(&key(rest), size as u32)?;
    }
    if gpt {
        writer.set(&key("attention.layer_norm_epsilon"), config.norm_eps)?;
    } else {
        writer.set(&key("attention.layer_norm_rms_epsilon"), config.norm_eps)?;
        writer.set(&key("attention.head_count_kv"), config.n_kv_heads as u32)?;
        writer.set(&key("attention.key_length"), config.head_dim as u32)?;
        writer.set(&key("attention.value_length"), config.head_dim as u32)?;
        writer.set(&key("rope.dimension_count"), config.head_dim as u32)?;
        writer.set(&key("rope.freq_base"), config.rope_theta)?;
    }
    if let Some(sliding) = config.sliding {
        writer.set(&key("attention.sliding_window"), sliding.window as u32)?;
        // What llama.cpp takes for granted is left out, as its converter does.
        if sliding.every != 6 && sliding.every != Sliding::ALL {
            writer.set(&key("attention.sliding_window_pattern"), sliding.every as u32)?;
        }
        if sliding.rope_theta != 10_000.0 && sliding.every != Sliding::ALL {
            writer.set(&key("rope.freq_base_swa"), sliding.rope_theta)?;
        }
    }
    if let Some(RopeScaling::Linear { factor }) = config.rope_scaling {
        writer.set(&key("rope.scaling.type"), "linear")?;
        writer.set(&key("rope.scaling.factor"), factor)?;
    }
    writer.set("general.quantization_version", 2u32)?;
    writer.set("general.file_type", mix.file_type())
}
