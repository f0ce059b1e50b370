//! Folders of safetensors: stored precision is kept, shards are put together, damage is named.

use crate::executors::{config, fed, random, tokens};
use half::{bf16, f16};
use hearth_model::executor::ParamId;
use hearth_model::gguf::{Gguf, GgufModel, save_gguf};
use hearth_model::hf::SpecialIds;
use hearth_model::source::{Source, Stored};
use hearth_model::{
    CacheType, Decoder, DecoderConfig, Family, FolderModel, Runner, StoredType, Weights, save_folder,
};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::path::Path;

/// A folder with one file in a type, and what it was made from.
fn saved(dir: &Path, family: Family, dtype: Dtype) -> (Decoder, Weights) {
    let (decoder, weights) =
        random(&DecoderConfig { tied_head: family == Family::Gpt2, ..config(family, 64) });
    save_folder(dir, &decoder, &weights, SpecialIds::default(), StoredType::F32).expect("saved");
    rewrite(&dir.join("model.safetensors"), &dir.join("model.safetensors"), dtype, |_| true);
    (decoder, weights)
}

/// Copies the tensors whose names are wanted into another file, in another type.
fn rewrite(from: &Path, to: &Path, dtype: Dtype, wanted: impl Fn(&str) -> bool) {
    let bytes = fs_err::read(from).expect("there");
    let file = SafeTensors::deserialize(&bytes).expect("whole");
    let narrow = |x: f32| match dtype {
        Dtype::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
        Dtype::BF16 => bf16::from_f32(x).to_le_bytes().to_vec(),
        _ => x.to_le_bytes().to_vec(),
    };
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, view)| {
            let values = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
            (name.to_owned(), view.shape().to_vec(), values.flat_map(narrow).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(dtype, shape.clone(), bytes).expect("a tensor"))
    });
    fs_err::write(to, safetensors::serialize(views, None).expect("written")).expect("written");
}

/// Matrices stay in the precision of the file, and give the bits of their values in single precision.
#[test]
fn stored_precision_is_kept_and_changes_no_bit() {
    let tokens = tokens(19, 1);
    for family in Family::ALL {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let dir = tempfile::tempdir().expect("a folder");
            let (decoder, _) = saved(dir.path(), family, dtype);
            let model = FolderModel::open(dir.path()).expect("opens");
            let matrices = decoder.specs().iter().enumerate().filter(|(_, spec)| spec.shape.len() == 2);
            for (i, spec) in matrices {
                let Stored::File(rows) = model.stored(ParamId::new(i)) else {
                    panic!("{} was copied", spec.name)
                };
                assert_eq!(rows.kind.block_bytes(), if dtype == Dtype::F32 { 4 } else { 2 }, "{}", spec.name);
            }
            let wide = Weights::of_source(model.decoder(), &model).expect("copied");
            let mut kept = Runner::new(model.decoder().clone(), &model).expect("runs");
            let mut widened = Runner::new(model.decoder().clone(), &wide).expect("runs");
            // Half-precision weights would have a half-precision cache.
            [&mut kept, &mut widened].into_iter().for_each(|runner| runner.set_cache_type(CacheType::F32));
            for part in [1, 5, 19] {
                let (kept, widened) = (fed(&mut kept, &tokens, part), fed(&mut widened, &tokens, part));
                assert_eq!(kept, widened, "{family:?} {dtype:?} in parts of {part}");
            }
        }
    }
}

/// A folder and the GGUF file made from it give the same bits.
#[test]
fn a_folder_equals_its_conversion() {
    let tokens = tokens(19, 2);
    for family in Family::ALL.into_iter().filter(|family| *family != Family::Gpt1) {
        for (dtype, mix) in [(Dtype::F32, "F32"), (Dtype::F16, "F16"), (Dtype::BF16, "BF16")] {
            let dir = tempfile::tempdir().expect("a folder");
            saved(dir.path(), family, dtype);
            let model = FolderModel::open(dir.path()).expect("opens");
            let path = dir.path().join("m.gguf");
            let mix = mix.parse().expect("a mix");
            save_gguf(&path, model.decoder(), &model, mix, &|_| None, &|_| Ok(()), |_, _| {}).expect("saved");
            let gguf = GgufModel::new(Gguf::open(&path).expect("a file")).expect("a model");
            let folder = fed(&mut Runner::new(model.decoder().clone(), &model).expect("runs"), &tokens, 5);
            let file = fed(&mut Runner::new(gguf.decoder().clone(), &gguf).expect("runs"), &tokens, 5);
            assert_eq!(folder, file, "{family:?} {dtype:?}");
        }
    }
}

/// Makes two shards of a folder's file: blocks 0 and 1, and the rest. Returns the index.
fn shard(dir: &Path) -> Value {
    let whole = dir.join("model.safetensors");
    let first = |name: &str| name.contains(".0.") || name.contains(".1.");
    rewrite(&whole, &dir.join("a.safetensors"), Dtype::F32, first);
    rewrite(&whole, &dir.join("b.safetensors"), Dtype::F32, |name| !first(name));
    let bytes = fs_err::read(&whole).expect("there");
    let file = SafeTensors::deserialize(&bytes).expect("whole");
    let map: serde_json::Map<String, Value> = file
        .iter()
        .map(|(name, _)| {
            (name.to_owned(), json!(if first(name) { "a.safetensors" } else { "b.safetensors" }))
        })
        .collect();
    fs_err::remove_file(&whole).expect("removed");
    let index = json!({ "metadata": {}, "weight_map": map });
    write_index(dir, &index);
    index
}

fn write_index(dir: &Path, index: &Value) {
    fs_err::write(dir.join("model.safetensors.index.json"), index.to_string()).expect("written");
}

#[test]
fn shards_are_put_together() {
    let dir = tempfile::tempdir().expect("a folder");
    let (decoder, weights) = saved(dir.path(), Family::Llama, Dtype::F32);
    shard(dir.path());
    let model = FolderModel::open(dir.path()).expect("opens");
    for (i, spec) in decoder.specs().iter().enumerate() {
        let id = ParamId::new(i);
        assert_eq!(model.stored(id).values(), weights.get(id).data(), "{}", spec.name);
    }
}

/// Damages a folder of two shards, and expects an error that says so.
fn refused(damage: impl Fn(&Path, &mut Value), expect: &[&str]) {
    let dir = tempfile::tempdir().expect("a folder");
    saved(dir.path(), Family::Llama, Dtype::F32);
    let whole = fs_err::read(dir.path().join("model.safetensors")).expect("there");
    let mut index = shard(dir.path());
    // What some kinds of damage are made from.
    fs_err::write(dir.path().join("whole"), whole).expect("written");
    damage(dir.path(), &mut index);
    write_index(dir.path(), &index);
    let error = FolderModel::open(dir.path()).expect_err("refused").to_string();
    assert!(expect.iter().all(|part| error.contains(part)), "{error}");
}

#[test]
fn damaged_shards_are_named() {
    let norm = "model.norm.weight";
    refused(
        |dir, _| fs_err::remove_file(dir.join("b.safetensors")).expect("removed"),
        &["index.json: shard b.safetensors isn't in the folder", "hint:"],
    );
    refused(
        |_, index| index["weight_map"]["model.extra"] = json!("a.safetensors"),
        &["a.safetensors: no tensor model.extra, which model.safetensors.index.json says is in this file"],
    );
    refused(
        |_, index| index["weight_map"][norm] = json!("a.safetensors"),
        &["a.safetensors: no tensor model.norm.weight, which"],
    );
    refused(
        |dir, _| {
            let in_both = |name: &str| name.contains(".0.") || name.contains(".1.") || name == norm;
            rewrite(&dir.join("whole"), &dir.join("a.safetensors"), Dtype::F32, in_both);
        },
        &["b.safetensors: tensor model.norm.weight is there twice, the other is in a.safetensors"],
    );
    refused(
        |dir, index| {
            rewrite(&dir.join("whole"), &dir.join("b.safetensors"), Dtype::F32, |name| {
                !name.contains(".0.") && !name.contains(".1.") && name != norm
            });
            index["weight_map"].as_object_mut().expect("a map").remove(norm);
        },
        &["no tensor model.norm.weight, expected shape [36]"],
    );
    refused(
        |dir, _| {
            let bytes = fs_err::read(dir.join("b.safetensors")).expect("there");
            fs_err::write(dir.join("b.safetensors"), &bytes[..bytes.len() - 5]).expect("cut");
        },
        &["b.safetensors: not a whole safetensors file"],
    );
    refused(
        |_, index| index["weight_map"][norm] = json!("../b.safetensors"),
        &["shard name \"../b.safetensors\" is a path"],
    );
    refused(
        |_, index| index["weight_map"][norm] = json!(3),
        &["tensor model.norm.weight is in 3, expected a file's name"],
    );
    refused(|_, index| *index = json!({}), &["no weight_map"]);
}
