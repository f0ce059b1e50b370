//! Updates of low rank against PEFT's; see `tests/golden/lora.py`. What is frozen stays, what is merged does the same.

use crate::golden::{Golden, close, golden};
use hearth_engine::Lesson;
use hearth_model::executor::ParamSpec;
use hearth_model::tape::{TokenBatch, Trainable};
use hearth_model::{Adapter, AdapterOf, Lora, LoraConfig, TaskFolder, Weights, load_folder, save_adapter};
use hearth_tensor::nn::CrossEntropyOptions;
use hearth_train::finetune::fit::{Event, Observer, fit};
use hearth_train::finetune::loss::{Targets, loss};
use hearth_train::finetune::settings::Settings;
use hearth_train::finetune::text::TextLearner;
use std::path::Path;

fn data(weights: &Weights) -> Vec<Vec<f32>> {
    weights.tensors().iter().map(|tensor| tensor.data().to_vec()).collect()
}

/// The gradients of what is trained, by PEFT's names; nothing else has one.
fn check_gradients(expected: &Golden, specs: &[ParamSpec], weights: &Weights, prefix: &str) {
    let mut trained = 0;
    for (spec, tensor) in specs.iter().zip(weights.tensors()) {
        let names = [format!("grad.{prefix}{}", spec.name), format!("grad.{}", spec.name)];
        match names.iter().find(|name| expected.has(name)) {
            Some(name) => {
                let gradient = tensor.grad().unwrap_or_else(|| panic!("{name} has no gradient"));
                // Of gradients up to 0.8; PEFT's own are 1.6e-6 off what it gives in double precision.
                close(name, gradient.data(), &expected.floats(name), 1e-5);
                trained += 1;
            }
            None => assert!(tensor.grad().is_none(), "{} is frozen", spec.name),
        }
    }
    assert!(trained >= 8);
}

/// Saves an adapter and holds what is read back to it.
fn saved_again(lora: &Lora, specs: &[ParamSpec], weights: &Weights, of: &AdapterOf, in_out: bool) {
    let dir = tempfile::tempdir().expect("a folder");
    save_adapter(dir.path(), lora, specs, weights, of).expect("saves");
    let base = specs.len() - lora.specs().len();
    let again = Adapter::open(dir.path(), &specs[..base], of.class_prefix, in_out).expect("opens");
    assert_eq!((again.base.as_str(), again.lora.config().rank), (of.base, lora.config().rank));
    let tensors: Vec<&[f32]> = again.tensors.iter().map(|tensor| tensor.data()).collect();
    let stored: Vec<&[f32]> = weights.tensors()[base..].iter().map(|tensor| tensor.data()).collect();
    assert_eq!(tensors, stored);
}

#[track_caller]
fn check_decoder(name: &str, targets: usize) {
    let folder = golden(&format!("lora/{name}"));
    let expected = Golden::read(&format!("lora/{name}/golden.safetensors"));
    let (decoder, mut weights) = load_folder(&golden(name)).expect("the model opens");
    let in_out = decoder.config().family.stores_in_out();
    let adapter = Adapter::open(&folder, decoder.specs(), "", in_out).expect("PEFT's adapter opens");
    weights.freeze(|_| false);
    let frozen = data(&weights);
    let lora = adapter.install(&mut weights);
    assert_eq!(lora.targets().len(), targets);
    let specs: Vec<ParamSpec> = decoder.specs().iter().chain(lora.specs()).cloned().collect();
    let mut model = Trainable::new(decoder);
    model.lora = Some(lora.clone());

    // PEFT's labels are those of the tokens themselves.
    let labels: Vec<Vec<i32>> = expected.ints("labels").chunks(7).map(<[i32]>::to_vec).collect();
    let shifted = |row: &Vec<i32>| -> Vec<i32> { row[1..].iter().copied().chain([-100]).collect() };
    let targets: Vec<i32> = labels.iter().flat_map(shifted).map(|t| if t == -100 { -1 } else { t }).collect();
    let batch = TokenBatch::causal(expected.ids("input_ids"), 2);
    close("logits", model.logits(&weights, &batch).expect("runs").data(), &expected.floats("logits"), 1e-5);
    let out = model.loss(&weights, &batch, &targets, &CrossEntropyOptions::default()).expect("a loss");
    close("loss", &[out.loss.item().expect("a scalar")], &expected.floats("loss"), 1e-6);
    out.loss.backward().expect("gradients");
    check_gradients(&expected, &specs, &weights, "");

    let merged = lora.merge(&weights);
    model.lora = None;
    close("merged", model.logits(&merged, &batch).expect("runs").data(), &expected.floats("logits"), 1e-5);
    assert_eq!(data(&weights)[..frozen.len()], frozen);
    let of = AdapterOf { base: "a-model", task: "CAUSAL_LM", class_prefix: "", prefixed: usize::MAX };
    saved_again(&lora, &specs, &weights, &of, in_out);
}

#[test]
fn rank_stabilised_updates_of_llama_as_in_peft() {
    check_decoder("llama", 3);
}

#[test]
fn updates_of_transposed_weights_as_in_peft() {
    check_decoder("gpt2", 2);
}

#[test]
fn updates_under_a_head_as_in_peft() {
    let expected = Golden::read("lora/single/golden.safetensors");
    let TaskFolder { mut model, mut weights, .. } = TaskFolder::open(&golden("heads/single")).expect("opens");
    let base = model.specs().len();
    let adapter =
        Adapter::open(&golden("lora/single"), model.specs(), "bert.", false).expect("PEFT's adapter opens");
    assert_eq!(adapter.replaced.len(), 2, "the head's weight and bias");
    let prefixed = model.backbone().specs().len();
    weights.freeze(|i| i >= prefixed);
    model.set_lora(adapter.install(&mut weights));
    let ids = expected.ids("input_ids");
    let sequences: Vec<&[u32]> = ids.chunks(7).collect();
    let batch = model.backbone().batch(&sequences);
    let logits = model.logits(&weights, &batch).expect("runs");
    close("logits", logits.data(), &expected.floats("logits"), 1e-5);
    let value = loss(&logits, &Targets::Classes(expected.ints("labels")), &batch).expect("a loss");
    close("loss", &[value.item().expect("a scalar")], &expected.floats("loss"), 1e-6);
    value.backward().expect("gradients");
    check_gradients(&expected, model.specs(), &weights, "bert.");

    let mut runner = hearth_model::TaskRunner::new(&model, &weights).expect("a runner");
    let planned = runner.logits(&sequences, &vec![0; ids.len()]).expect("runs");
    close("merged, planned", &planned, &expected.floats("logits"), 1e-5);
    let of = AdapterOf { base: "a-model", task: "SEQ_CLS", class_prefix: "bert.", prefixed };
    saved_again(model.lora().expect("just set"), model.specs(), &weights, &of, false);
    assert_eq!(base + model.lora().expect("just set").specs().len(), model.specs().len());
}

struct Silent;

impl Observer for Silent {
    fn say(&mut self, _: &str) {}
    fn event(&mut self, _: &Event) {}
    fn stop(&mut self) -> bool {
        false
    }
}

fn lesson(ids: &[u32], from: usize) -> Lesson {
    Lesson { ids: ids.to_vec(), learnt: (0..ids.len()).map(|i| i >= from).collect() }
}

#[test]
fn training_moves_the_updates_alone_and_bf16_comes_near() {
    let lessons =
        [lesson(&[1, 2, 3, 4, 5, 6], 2), lesson(&[7, 8, 9, 1], 1), lesson(&[3, 3, 4, 4, 5, 5, 6], 4)];
    let settings = Settings { epochs: 6.0, batch: 2, lr: 3e-2, ..Settings::for_texts(Default::default()) };
    let train = |half: bool, pass_tokens: usize| {
        let (decoder, mut weights) = load_folder(&golden("llama")).expect("the model opens");
        let config = LoraConfig { rank: 2, alpha: 4.0, rank_stabilized: false, targets: Vec::new() };
        let lora = Lora::new(config, decoder.specs(), false).expect("layers");
        weights.freeze(|_| false);
        let before = data(&weights);
        if half {
            weights.halve_frozen();
        }
        lora.start(&mut weights, 5);
        let mut model = Trainable::new(decoder);
        model.lora = Some(lora);
        let settings = Settings { pass_tokens, ..settings.clone() };
        let mut learner = TextLearner::new(&model, &lessons, &lessons);
        let (fitted, look) =
            fit(&mut learner, weights, &settings, "loss", None, &mut Silent).expect("trains");
        let losses: Vec<f32> = fitted
            .events
            .iter()
            .filter_map(|event| if let Event::Step { loss, .. } = event { Some(*loss) } else { None })
            .collect();
        (before, data(&fitted.weights), losses, look.metrics["loss"])
    };
    let (before, after, losses, end) = train(false, 2048);
    assert_eq!(after[..before.len()], before, "frozen weights don't move by a bit");
    assert!(
        after[before.len()..].iter().all(|values| values.iter().any(|&x| x != 0.0)),
        "updates were trained"
    );
    assert!(end < 0.7 * f64::from(losses[0]), "from {} to {end}", losses[0]);
    // In parts, the gradients are the same sums in another order.
    let (_, _, in_parts, _) = train(false, 5);
    close("losses in parts", &in_parts, &losses, 1e-4);
    let (_, _, halved, _) = train(true, 2048);
    close("losses over bf16", &halved, &losses, 0.05);
    assert_ne!(halved, losses);
}

#[test]
fn what_isnt_an_adapter_of_the_model_is_refused() {
    let (decoder, _) = load_folder(&golden("llama")).expect("the model opens");
    let open = |dir: &Path| Adapter::open(dir, decoder.specs(), "", false).unwrap_err().to_string();
    assert!(open(&golden("lora/gpt2")).contains("belongs to no layer of this model"));
    let dir = tempfile::tempdir().expect("a folder");
    assert!(open(dir.path()).contains("adapter_config.json"));
    let config = std::fs::read_to_string(golden("lora/llama/adapter_config.json")).expect("there");
    let write = |from: &str, to: &str| {
        assert!(config.contains(from));
        std::fs::write(dir.path().join("adapter_config.json"), config.replace(from, to)).expect("written");
    };
    write("\"use_dora\": false", "\"use_dora\": true");
    assert!(open(dir.path()).contains("use_dora is true, which isn't understood"));
    write("\"LORA\"", "\"IA3\"");
    assert!(open(dir.path()).contains("peft_type is \"IA3\", expected LORA"));
    write("\"bias\": \"none\"", "\"bias\": \"all\"");
    assert!(open(dir.path()).contains("bias is \"all\""));
    let lora = |targets: &[&str], rank| {
        let targets = targets.iter().map(|target| (*target).to_owned()).collect();
        let config = LoraConfig { rank, alpha: 1.0, rank_stabilized: false, targets };
        Lora::new(config, decoder.specs(), false).map(drop).map_err(|e| e.to_string())
    };
    assert!(
        lora(&["q_proj", "k_prog"], 4)
            .unwrap_err()
            .contains("no layer is called \"k_prog\"\nhint: there are")
    );
    assert!(lora(&[], 0).unwrap_err().contains("rank 0"));
}
