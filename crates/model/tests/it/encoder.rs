//! Encoders: both executors agree, a sequence's company changes no bit, and files of each kind open.

use crate::executors::tokens;
use hearth_kernel::quant::{BlockType, quantize};
use hearth_model::gguf::{Gguf, GgufEncoder, GgufModel, GgufWriter};
use hearth_model::tape::{TokenBatch, TrainableEncoder};
use hearth_model::{
    Encoder, EncoderConfig, EncoderFamily, EncoderFolder, EncoderRunner, ModelError, Weights,
};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::path::Path;

fn config() -> EncoderConfig {
    EncoderConfig { intermediate_size: 96, ..EncoderConfig::bert(61, 128, 3, 2, 300) }
}

/// EuroBERT's shape, with two query heads for each key-value head.
fn eurobert() -> EncoderConfig {
    let mut config = EncoderConfig::native(61, 128, 3, 300);
    if let EncoderFamily::EuroBert(own) = &mut config.family {
        own.n_kv_heads = 2;
    }
    config
}

/// Random weights, large enough that every operation shows; no vector stays at 0 or 1.
fn random(config: EncoderConfig) -> (Encoder, Weights) {
    let encoder = Encoder::new(config).expect("valid");
    let mut weights = Weights::init(&encoder, 5, false);
    for (i, tensor) in weights.tensors_mut().iter_mut().enumerate() {
        let vector = tensor.shape().len() == 1;
        for (j, x) in tensor.data_mut().iter_mut().enumerate() {
            *x = if vector { *x + 0.3 * ((i * 31 + j * 17) % 13) as f32 / 13.0 - 0.1 } else { *x * 5.0 };
        }
    }
    (encoder, weights)
}

fn run(runner: &mut EncoderRunner, sequences: &[&[u32]]) -> Vec<f32> {
    runner.run(sequences).expect("runs").to_vec()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn executors_agree() {
    [config(), eurobert()].into_iter().for_each(check_executors);
}

fn check_executors(config: EncoderConfig) {
    let (encoder, weights) = random(config);
    let texts = [tokens(19, 0), tokens(1, 1), tokens(133, 2)];
    let sequences: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let batch = TokenBatch::bidirectional(&sequences);
    let expect = TrainableEncoder::new(encoder.clone()).hidden(&weights, &batch).expect("runs");
    let got = run(&mut EncoderRunner::new(encoder, &weights, None).expect("packs"), &sequences);
    assert_eq!(got.len(), expect.len());
    for (i, (got, expect)) in got.iter().zip(expect.data()).enumerate() {
        assert!((got - expect).abs() < 1e-4, "at {i}: {got}, the tape says {expect}");
    }
}

#[test]
fn a_sequence_has_the_bits_it_has_alone() {
    for (config, kind) in [
        (config(), None),
        (config(), Some(BlockType::Q8_0)),
        (eurobert(), None),
        (eurobert(), Some(BlockType::Q8_0)),
    ] {
        let (encoder, weights) = random(config);
        let mut runner = EncoderRunner::new(encoder.clone(), &weights, kind).expect("packs");
        let texts = [tokens(7, 0), tokens(90, 1), tokens(30, 2), tokens(1, 3)];
        let sequences: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let together = run(&mut runner, &sequences);
        let alone: Vec<f32> = sequences.iter().flat_map(|s| run(&mut runner, &[s])).collect();
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&together), bits(&alone), "{kind:?}");
    }
}

#[test]
fn eight_bits_stay_near() {
    let (encoder, weights) = random(config());
    let text = tokens(40, 0);
    let exact = run(&mut EncoderRunner::new(encoder.clone(), &weights, None).expect("packs"), &[&text]);
    let mut runner = EncoderRunner::new(encoder, &weights, Some(BlockType::Q8_0)).expect("packs");
    let near = run(&mut runner, &[&text]);
    assert_ne!(exact, near);
    for (a, b) in exact.chunks_exact(128).zip(near.chunks_exact(128)) {
        assert!(cosine(a, b) > 0.999, "{}", cosine(a, b));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (encoder, weights) = random(config());
    let mut runner = EncoderRunner::new(encoder, &weights, None).expect("packs");
    let check = |result: Result<&[f32], ModelError>, expect: &str| {
        assert_eq!(result.expect_err("refused").to_string(), expect);
    };
    let (long, half) = (tokens(301, 0), tokens(160, 0));
    check(runner.run(&[&long]), "301 tokens don't fit: the model has room for 300\nhint: cut the text");
    check(
        runner.run(&[&half, &half]),
        "320 tokens don't fit: one pass has room for 300\nhint: run fewer sequences at a time",
    );
    check(
        runner.run(&[&[61]]),
        "token id 61 is outside the model's vocabulary of 61\nhint: was the text encoded with another model's \
         tokenizer?",
    );
    assert!(run(&mut runner, &[]).is_empty());
    let odd = EncoderConfig { hidden_size: 36, ..config() };
    let (encoder, weights) = random(odd);
    let refused = EncoderRunner::new(encoder, &weights, Some(BlockType::Q8_0)).expect_err("refused");
    assert_eq!(
        refused.to_string(),
        "weights in another type: Q8_0 needs rows [out, in] of a multiple of 32 values, got 36"
    );
}

/// Writes a folder whose tensors have a prefix, and opens it.
fn folder(
    prefix: &str,
    config: &Value,
    encoder: &Encoder,
    weights: &Weights,
) -> Result<EncoderFolder, ModelError> {
    let dir = tempfile::tempdir().expect("a folder");
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = encoder
        .specs()
        .iter()
        .zip(weights.tensors())
        .map(|(spec, tensor)| {
            let bytes = tensor.data().iter().flat_map(|x| x.to_le_bytes()).collect();
            (format!("{prefix}{}", spec.name), spec.shape.clone(), bytes)
        })
        .chain([("cls.predictions.bias".to_owned(), vec![1], vec![0; 4])])
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor"))
    });
    let blob = safetensors::serialize(views, None).expect("bytes");
    std::fs::write(dir.path().join("model.safetensors"), blob).expect("written");
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("written");
    EncoderFolder::open(dir.path())
}

#[test]
fn folders_open_with_and_without_prefix_and_with_no_configuration() {
    let (encoder, weights) = random(EncoderConfig { pooler: true, ..config() });
    let text = tokens(20, 0);
    let expect = run(&mut EncoderRunner::new(encoder.clone(), &weights, None).expect("packs"), &[&text]);
    let full = json!({
        "model_type": "bert", "vocab_size": 61, "hidden_size": 128, "intermediate_size": 96,
        "num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 300,
    });
    let pooling = json!({"word_embedding_dimension": 128, "pooling_mode_mean_tokens": true});
    for (prefix, config, guessed) in [("", &full, false), ("bert.", &full, false), ("", &pooling, true)] {
        let opened = folder(prefix, config, &encoder, &weights).expect("opens");
        assert_eq!((opened.guessed, opened.encoder.config()), (guessed, encoder.config()));
        let mut runner = EncoderRunner::new(opened.encoder, &opened.weights, None).expect("packs");
        assert_eq!(run(&mut runner, &[&text]), expect);
    }
    let (encoder, weights) = random(EncoderConfig { hidden_size: 64, ..config() });
    let refused = folder("", &pooling, &encoder, &weights).expect_err("heads aren't known").to_string();
    assert!(refused.contains("no published bert of width 64 is known here\nhint: add"), "{refused}");
    let mut other = full.clone();
    other["position_embedding_type"] = json!("relative_key");
    let refused = folder("", &other, &encoder, &weights).expect_err("other positions").to_string();
    assert!(refused.ends_with("position_embedding_type \"relative_key\" isn't supported"), "{refused}");
}

#[test]
fn tensors_of_no_values_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let full = json!({
        "model_type": "bert", "vocab_size": 61, "hidden_size": 128, "intermediate_size": 96,
        "num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 300,
    });
    let header =
        r#"{"embeddings.word_embeddings.weight":{"dtype":"F32","shape":[61,0],"data_offsets":[0,0]}}"#;
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    std::fs::write(dir.path().join("model.safetensors"), file).expect("written");
    std::fs::write(dir.path().join("config.json"), full.to_string()).expect("written");
    let error = EncoderFolder::open(dir.path()).expect_err("refused").to_string();
    assert!(error.contains("expected shape [61, 128], got [61, 0]"), "{error}");
}

/// A file with llama.cpp's names.
fn write_gguf(path: &Path, encoder: &Encoder, weights: &Weights, kind: BlockType) {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "bert").expect("set");
    let c = encoder.config();
    let sizes = [
        ("block_count", c.n_layers),
        ("context_length", c.max_positions),
        ("embedding_length", c.hidden_size),
        ("feed_forward_length", c.intermediate_size),
        ("attention.head_count", c.n_heads),
    ];
    sizes.iter().for_each(|(key, size)| writer.set(&format!("bert.{key}"), *size as u32).expect("set"));
    writer.set("bert.attention.layer_norm_epsilon", c.norm_eps).expect("set");
    writer.set("bert.attention.causal", false).expect("set");
    let renamed = [
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
        ("encoder.layer", "blk"),
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ];
    for spec in encoder.specs() {
        let name = renamed.iter().fold(spec.name.clone(), |name, (from, to)| name.replace(from, to));
        let dims: Vec<usize> = spec.shape.iter().rev().copied().collect();
        let kind = if name.starts_with("blk") && dims.len() == 2 { kind } else { BlockType::F32 };
        writer.declare(&name, &dims, kind).expect("declared");
    }
    let mut tensors = weights.tensors().iter();
    let write = |tensor: &hearth_model::gguf::TensorInfo, out: &mut dyn std::io::Write| {
        let values = tensors.next().expect("as many");
        let mut bytes = vec![0; tensor.byte_len()];
        quantize(tensor.kind, values.data(), tensor.row_len(), None, &mut bytes).expect("quantised");
        Ok(out.write_all(&bytes)?)
    };
    writer.write(path, write).expect("written");
}

#[test]
fn gguf_files_open() {
    let (encoder, weights) = random(config());
    let text = tokens(33, 0);
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("bert.gguf");
    for kind in [BlockType::F32, BlockType::Q8_0] {
        write_gguf(&path, &encoder, &weights, kind);
        let model = GgufEncoder::new(Gguf::open(&path).expect("opens")).expect("a model");
        assert_eq!(model.encoder().config(), encoder.config());
        let got = run(&mut EncoderRunner::new(encoder.clone(), &model, None).expect("packs"), &[&text]);
        let memory = Some(kind).filter(|kind| kind.is_quantized());
        let expect =
            run(&mut EncoderRunner::new(encoder.clone(), &weights, memory).expect("packs"), &[&text]);
        assert_eq!(got, expect, "{}", kind.name());
    }
    let refused = GgufModel::new(Gguf::open(&path).expect("opens")).expect_err("no decoder").to_string();
    assert!(refused.ends_with("hint: hearth embed runs it"), "{refused}");
}
