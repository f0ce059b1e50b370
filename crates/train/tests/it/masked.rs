//! Masked-language modelling against `transformers`' classes; see `tests/golden/masked.py`.

use crate::golden::{Golden, close, golden};
use hearth_model::tape::TokenBatch;
use hearth_model::{MaskedModel, StoredType, Weights, load_masked_folder, save_masked_folder};
use hearth_tensor::nn::{self, CrossEntropyOptions};
use std::path::Path;

const LENGTHS: [usize; 3] = [9, 5, 7];

fn open(dir: &Path) -> (MaskedModel, Weights) {
    let (model, weights, fresh) = load_masked_folder(dir, 0).expect("the folder opens");
    assert!(!fresh, "the folder has the head");
    (model, weights)
}

#[track_caller]
fn check(name: &str) {
    let expected = Golden::read(&format!("masked/{name}/golden.safetensors"));
    let folder = golden(&format!("masked/{name}"));
    let (model, weights) = open(&folder);
    let ids = expected.ids("input_ids");
    let (first, rest) = ids.split_at(LENGTHS[0]);
    let (second, third) = rest.split_at(LENGTHS[1]);
    let batch = TokenBatch::bidirectional(&[first, second, third]);
    let (rows, targets) = (expected.ids("rows"), expected.ints("targets"));
    let logits = model.logits(&weights, &batch, &rows).expect("logits");
    close("logits", logits.data(), &expected.floats("logits"), 1e-5);

    // A chunk of four, so that the six rows go through the head in two parts.
    let options = CrossEntropyOptions { chunk: 4, ..CrossEntropyOptions::default() };
    let out = model.loss(&weights, &batch, &rows, &targets, &options).expect("a loss");
    close("loss", &[out.loss.item().expect("a scalar")], &expected.floats("loss"), 1e-6);
    let plain = nn::cross_entropy(&logits, &targets, &CrossEntropyOptions::default()).expect("a loss");
    assert!((plain.sum - out.sum).abs() < 1e-4, "{} and {}", plain.sum, out.sum);
    out.loss.backward().expect("gradients");
    for (spec, tensor) in model.specs().iter().zip(weights.tensors()) {
        let names = ["grad.bert.", "grad.model.", "grad."].map(|prefix| format!("{prefix}{}", spec.name));
        let name = names.iter().find(|name| expected.has(name)).unwrap_or_else(|| panic!("{}", spec.name));
        let gradient = tensor.grad().unwrap_or_else(|| panic!("{} has no gradient", spec.name));
        close(name, gradient.data(), &expected.floats(name), 2e-6);
    }

    let dir = tempfile::tempdir().expect("a folder");
    save_masked_folder(dir.path(), &model, &weights, StoredType::F32).expect("saves");
    let (again, saved) = open(dir.path());
    assert_eq!(again.encoder().config(), model.encoder().config());
    let data = |weights: &Weights| weights.tensors().iter().map(|t| t.data().to_vec()).collect::<Vec<_>>();
    assert_eq!(data(&saved), data(&weights));
    assert_eq!(tensor_names(dir.path()), tensor_names(&folder), "tensors as transformers names them");
}

fn tensor_names(dir: &Path) -> Vec<String> {
    let bytes = std::fs::read(dir.join("model.safetensors")).expect("weights");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let mut names: Vec<String> = file.names().into_iter().map(|name| name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn a_bert_finds_masked_tokens_as_in_transformers() {
    check("bert");
}

#[test]
fn a_eurobert_finds_masked_tokens_as_in_transformers() {
    check("eurobert");
}

#[test]
fn a_eurobert_whose_head_is_its_embedding_does_too() {
    check("eurobert-tied");
}

#[test]
fn a_folder_without_the_head_gains_one_that_the_seed_decides() {
    let head = |seed: u64| {
        let (model, weights, fresh) = load_masked_folder(&golden("bert"), seed).expect("opens");
        assert!(fresh);
        let place = model.specs().iter().position(|s| s.name.ends_with("transform.dense.weight"));
        weights.tensors()[place.expect("a head")].data().to_vec()
    };
    assert_eq!(head(3), head(3));
    assert_ne!(head(3), head(4));
}
