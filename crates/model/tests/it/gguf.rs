//! Files of other writers are read: one of the `gguf` package, which `tests/gguf/make.py` made.

use crate::executors::{config, fed, random, stretched, tokens};
use hearth_kernel::quant::BlockType;
use hearth_model::executor::ParamId;
use hearth_model::gguf::{Gguf, GgufModel, Mix, Value, save_gguf};
use hearth_model::source::Source;
use hearth_model::{Decoder, DecoderConfig, Family, ModelError, RopeScaling, Runner, StoredType, Weights};
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
        ("token_embd.weight", vec![256, 3], BlockType::Q4K),
        ("output_norm.weight", vec![5], BlockType::F32),
        ("blk.0.attn_q.weight", vec![64, 2], BlockType::Q8_0),
        ("half", vec![4, 3, 2], BlockType::F16),
        ("brain", vec![1, 7], BlockType::Bf16),
    ];
    assert_eq!(file.tensors().count(), expect.len());
    for (t, (tensor, (name, dims, kind))) in file.tensors().zip(expect).enumerate() {
        let tensor = tensor.expect("readable");
        assert_eq!((tensor.name.as_str(), &tensor.dims, tensor.kind), (name, &dims, kind));
        let bytes: Vec<u8> = (0..tensor.byte_len()).map(|i| (7 * i + t) as u8).collect();
        assert_eq!(file.bytes(tensor), bytes, "{name}");
    }
}

fn save(path: &Path, decoder: &Decoder, weights: &Weights, mix: &str) -> Result<GgufModel, ModelError> {
    let mix: Mix = mix.parse().expect("a mix");
    save_gguf(path, decoder, weights, mix, &|_| None, &|_| Ok(()), |_, _| {})?;
    GgufModel::new(Gguf::open(path)?)
}

/// What is saved and opened again gives the same logits, in every family that GGUF has.
#[test]
fn models_survive_the_round_trip() {
    let dir = tempfile::tempdir().expect("a folder");
    let tokens = tokens(19, 1);
    let families = Family::ALL.into_iter().filter(|family| *family != Family::Gpt1);
    for base in families.map(|family| config(family, 64)).chain(stretched()) {
        for tied_head in [false, true] {
            let config = DecoderConfig { tied_head, ..base.clone() };
            let (decoder, weights) = random(&config);
            let path = dir.path().join("m.gguf");
            let model = save(&path, &decoder, &weights, "f32").expect("saved");
            assert_eq!(model.decoder().config(), &config);
            let mut before = Runner::new(decoder, &weights).expect("runs");
            let mut after = Runner::new(model.decoder().clone(), &model).expect("runs");
            assert_eq!(fed(&mut after, &tokens, 5), fed(&mut before, &tokens, 5), "{config:?}");
        }
    }
}

/// Half precision and blocks lose a little, and no more.
#[test]
fn smaller_types_stay_near() {
    let dir = tempfile::tempdir().expect("a folder");
    let tokens = tokens(19, 2);
    let config = DecoderConfig {
        hidden_size: 64,
        intermediate_size: 256,
        head_dim: 16,
        tied_head: true,
        ..config(Family::Llama, 64)
    };
    let (decoder, weights) = random(&config);
    let exact = fed(&mut Runner::new(decoder.clone(), &weights).expect("runs"), &tokens, 19);
    let size = exact.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let mut before = 0.0;
    for (mix, most) in [
        ("F16", 1e-5),
        ("BF16", 1e-3),
        ("Q8_0", 1e-2),
        ("Q6_K", 2e-2),
        ("Q5_K_M", 0.1),
        ("Q4_K_M", 0.3),
        ("Q4_0", 0.5),
    ] {
        let model = save(&dir.path().join("m.gguf"), &decoder, &weights, mix).expect("saved");
        let got = fed(&mut Runner::new(model.decoder().clone(), &model).expect("runs"), &tokens, 19);
        let off = exact.iter().zip(&got).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / size;
        assert!(off < most && off > 0.0, "{mix}: off by {off:e}");
        assert!(off > before, "{mix} is nearer than the type before it: {off:e}, {before:e}");
        before = off / 4.0;
    }
}

#[test]
fn files_that_are_no_model_here_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("m.gguf");
    let (decoder, weights) = random(&config(Family::Gpt1, 64));
    let error = save(&path, &decoder, &weights, "f32").expect_err("refused").to_string();
    assert!(error.contains("no architecture for openai-gpt") && !path.exists(), "{error}");
    let mut writer = hearth_model::gguf::GgufWriter::new();
    writer.set("general.architecture", "mamba").expect("set");
    writer.write(&path, |_, _| Ok(())).expect("written");
    let error = GgufModel::new(Gguf::open(&path).expect("a file")).expect_err("refused").to_string();
    assert!(error.contains("architecture \"mamba\" doesn't run here\nhint: gpt2, llama"), "{error}");
}

/// Divisors that Llama 3's rule doesn't give are kept as they are; `config.json` has no words for them.
#[test]
fn divisors_of_another_rule() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("m.gguf");
    let scaling = RopeScaling::Divisors(vec![1.0, 1.5, 3.0, 2.0, 7.0]);
    let base = DecoderConfig { rope_scaling: Some(scaling), ..config(Family::Llama, 64) };
    let (decoder, weights) = random(&base);
    let model = save(&path, &decoder, &weights, "f32").expect("saved");
    assert_eq!(model.decoder().config(), &base);
    let error =
        hearth_model::save_folder(dir.path(), &decoder, &weights, Default::default(), StoredType::F32);
    assert!(error.expect_err("refused").to_string().contains("no words for the divisors"));
    // llama.cpp reads divisors in its `llama` alone.
    let other =
        DecoderConfig { rope_scaling: Some(RopeScaling::llama3(8.0, 64)), ..config(Family::Qwen3, 64) };
    let (decoder, weights) = random(&other);
    let error = save(&path, &decoder, &weights, "f32").expect_err("refused").to_string();
    assert!(error.contains("no place for this scaling"), "{error}");
}

/// Rows of a file in another order than the model's come in the model's.
#[test]
fn stored_values_are_in_the_order_of_the_model() {
    let dir = tempfile::tempdir().expect("a folder");
    for family in [Family::Llama, Family::Gpt2] {
        let (decoder, weights) = random(&config(family, 64));
        let model = save(&dir.path().join("m.gguf"), &decoder, &weights, "f32").expect("saved");
        for (i, spec) in decoder.specs().iter().enumerate() {
            let id = ParamId::new(i);
            assert_eq!(model.stored(id).values(), weights.get(id).data(), "{}", spec.name);
        }
    }
}
