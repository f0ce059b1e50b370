//! Heads of tasks against `transformers`' classes; see `tests/golden/heads.py`.

use crate::golden::{Golden, close, golden};
use hearth_model::{Problem, StoredType, TaskFolder, TaskRunner, Weights, save_task_folder};
use hearth_train::finetune::loss::{Targets, loss};

const LENGTHS: [usize; 3] = [9, 5, 7];

fn sequences(ids: &[u32]) -> Vec<&[u32]> {
    let (first, rest) = ids.split_at(LENGTHS[0]);
    let (second, third) = rest.split_at(LENGTHS[1]);
    vec![first, second, third]
}

#[track_caller]
fn check(task: &str, problem: Problem, targets: impl FnOnce(&Golden) -> Targets) {
    let expected = Golden::read(&format!("heads/{task}/golden.safetensors"));
    let folder = golden(&format!("heads/{task}"));
    let TaskFolder { mut model, weights, problem: found, labels } =
        TaskFolder::open(&folder).expect("transformers' folder opens");
    assert_eq!(found, problem);
    let (ids, types) = (expected.ids("input_ids"), expected.ids("token_type_ids"));
    let sequences = sequences(&ids);
    let batch = model.backbone().batch(&sequences).with_types(types.clone());
    let logits = model.logits(&weights, &batch).expect("logits");
    let wanted = expected.floats("logits");
    close("logits", logits.data(), &wanted, 1e-5);

    let value = loss(&logits, &targets(&expected), &batch).expect("a loss");
    let wanted_loss = expected.floats("loss");
    close("loss", &[value.item().expect("a scalar")], &wanted_loss, 2e-6 * wanted_loss[0].max(1.0));
    value.backward().expect("gradients");
    let mut compared = 0;
    for (spec, tensor) in model.specs().iter().zip(weights.tensors()) {
        let names = ["grad.bert.", "grad.model.", "grad."].map(|prefix| format!("{prefix}{}", spec.name));
        let name = names.iter().find(|name| expected.has(name)).unwrap_or_else(|| panic!("{}", spec.name));
        let gradient = tensor.grad().unwrap_or_else(|| panic!("{} has no gradient", spec.name));
        let wanted = expected.floats(name);
        let largest = wanted.iter().fold(1.0, |most: f32, x| most.max(x.abs()));
        close(name, gradient.data(), &wanted, 3e-6 * largest);
        compared += 1;
    }
    assert_eq!(compared, model.specs().len());

    // Planned, alone and together; then saved and opened again.
    let mut runner = TaskRunner::new(&model, &weights).expect("a runner");
    let together = runner.logits(&sequences, &types).expect("runs");
    close("planned", &together, &wanted, 1e-5);
    let (mut alone, mut row) = (Vec::new(), 0);
    for sequence in &sequences {
        let types = &types[row..row + sequence.len()];
        alone.extend(runner.logits(&[sequence], types).expect("runs"));
        row += sequence.len();
    }
    assert_eq!(alone, together, "a sequence's company changed its numbers");
    let dir = tempfile::tempdir().expect("a folder");
    save_task_folder(dir.path(), &model, &weights, &labels, problem, None, StoredType::F32).expect("saves");
    let again = TaskFolder::open(dir.path()).expect("opens");
    assert_eq!((again.labels, again.problem), (labels, problem));
    let data = |weights: &Weights| weights.tensors().iter().map(|t| t.data().to_vec()).collect::<Vec<_>>();
    assert_eq!(data(&again.weights), data(&weights));
}

#[test]
fn one_label_as_in_transformers() {
    check("single", Problem::SingleLabel, |golden| Targets::Classes(golden.ints("targets")));
}

#[test]
fn several_labels_as_in_transformers() {
    check("multi", Problem::MultiLabel, |golden| Targets::Labels(golden.floats("targets")));
}

#[test]
fn a_value_as_in_transformers() {
    check("regression", Problem::Regression, |golden| Targets::Values(golden.floats("targets")));
}

#[test]
fn labels_of_tokens_as_in_transformers() {
    check("tokens", Problem::SingleLabel, |golden| Targets::Classes(golden.ints("targets")));
}

#[test]
fn a_eurobert_with_one_label_as_in_transformers() {
    check("eurobert-single", Problem::SingleLabel, |golden| Targets::Classes(golden.ints("targets")));
}

#[test]
fn a_eurobert_with_labels_of_tokens_as_in_transformers() {
    check("eurobert-tokens", Problem::SingleLabel, |golden| Targets::Classes(golden.ints("targets")));
}

#[test]
fn a_llama_with_one_label_as_in_transformers() {
    check("llama-single", Problem::SingleLabel, |golden| Targets::Classes(golden.ints("targets")));
}

#[test]
fn a_gemma_with_one_label_as_in_transformers() {
    check("gemma3-single", Problem::SingleLabel, |golden| Targets::Classes(golden.ints("targets")));
}

#[test]
fn a_qwen_with_labels_of_tokens_as_in_transformers() {
    check("qwen2-tokens", Problem::SingleLabel, |golden| Targets::Classes(golden.ints("targets")));
}

#[test]
fn a_gpt_with_labels_of_tokens_as_in_transformers() {
    check("gpt2-tokens", Problem::SingleLabel, |golden| Targets::Classes(golden.ints("targets")));
}

#[test]
fn spans_as_in_transformers() {
    check("span", Problem::SingleLabel, |golden| {
        Targets::Spans(golden.ids("starts").into_iter().zip(golden.ids("ends")).collect())
    });
}
