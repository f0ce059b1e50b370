//! Adapters beside the weights: each sequence has its own, in one pass, with the result that it has alone.

use crate::executors::{config, random, tokens};
use hearth_model::{Adapter, Decoder, Family, Feed, Logits, Lora, LoraConfig, Runner, Updates, Weights};
use hearth_tensor::{Rng, Tensor};
use std::sync::Arc;

const V: usize = 61;

/// An adapter of all matrices with nothing at zero, and what the model is with it merged.
fn adapter(decoder: &Decoder, weights: &Weights, seed: u64) -> (Adapter, Weights) {
    let in_out = decoder.config().family.is_gpt();
    let config = LoraConfig { rank: 3, alpha: 4.0, rank_stabilized: true, targets: vec![] };
    let lora = Lora::new(config, decoder.specs(), in_out).expect("layers");
    let mut rng = Rng::new(seed);
    let tensors: Vec<Tensor> =
        lora.specs().iter().map(|spec| Tensor::randn(&spec.shape, 0.4, &mut rng)).collect();
    let adapter = Adapter { lora, tensors, replaced: vec![], base: String::new() };
    let mut merged = weights.clone();
    for (id, values) in adapter.changed(1.0, |id| weights.tensors()[id.index()].data().to_vec()) {
        merged.tensors_mut()[id.index()].data_mut().copy_from_slice(&values);
    }
    (adapter, merged)
}

#[test]
fn each_sequence_has_its_own_adapter_in_one_pass() {
    for family in [Family::Gpt2, Family::Qwen2, Family::Gemma3] {
        let (decoder, weights) = random(&config(family, 64));
        let (adapters, merged): (Vec<_>, Vec<_>) =
            [5, 6].map(|seed| adapter(&decoder, &weights, seed)).into_iter().unzip();
        let updates: Vec<_> =
            adapters.iter().map(|adapter| Arc::new(Updates::of(adapter).expect("updates"))).collect();
        let mut runner = Runner::new(decoder.clone(), &weights).expect("packs");
        let kinds = [Some(&updates[0]), None, Some(&updates[1]), Some(&updates[1]), None];
        let prompts: Vec<Vec<u32>> = (0..kinds.len()).map(|i| tokens(9 + i, i)).collect();

        let mut alone: Vec<Vec<f32>> = Vec::new();
        for (kind, prompt) in kinds.iter().zip(&prompts) {
            let mut sequence = runner.adapted_sequence(64, kind.cloned()).expect("room");
            let mut logits = runner.prefill(&mut sequence, prompt).expect("runs").to_vec();
            logits.extend(runner.prefill(&mut sequence, &[7]).expect("runs"));
            alone.push(logits);
        }
        // The prompts together, and a token of each together.
        let mut sequences: Vec<_> =
            kinds.iter().map(|kind| runner.adapted_sequence(64, kind.cloned()).expect("room")).collect();
        let mut together = |tokens: &[&[u32]]| {
            let mut feeds: Vec<Feed> = sequences
                .iter_mut()
                .zip(tokens)
                .map(|(sequence, tokens)| Feed { sequence, tokens, logits: Logits::Last })
                .collect();
            runner.run(&mut feeds).expect("runs").to_vec()
        };
        let first = together(&prompts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let second = together(&[&[7][..]; 5]);
        for (i, alone) in alone.iter().enumerate() {
            let rows = [&first[i * V..(i + 1) * V], &second[i * V..(i + 1) * V]].concat();
            assert!(rows == *alone, "{family:?}: sequence {i} has other bits in company");
        }

        // Merged into the weights it's the same, but for rounding; without an adapter it's something else.
        for (weights, i) in [(&weights, 1), (&merged[0], 0), (&merged[1], 3)] {
            let mut runner = Runner::new(decoder.clone(), weights).expect("packs");
            let mut sequence = runner.sequence(64).expect("room");
            let logits = runner.prefill(&mut sequence, &prompts[i]).expect("runs").to_vec();
            let size = logits.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let off =
                |other: &[f32]| logits.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off(&alone[i][..V]) <= 1e-5 * size.max(1.0), "{family:?}: off by {}", off(&alone[i]));
            assert!(off(&alone[4][..V]) > 0.1, "{family:?}: the adapter does nothing");
        }
    }
}

#[test]
fn an_adapter_that_replaces_parameters_is_refused() {
    let (decoder, weights) = random(&config(Family::Qwen3, 64));
    let (mut adapter, _) = adapter(&decoder, &weights, 1);
    adapter.replaced.push((decoder.head().weight, Tensor::zeros(&[1])));
    let error = Updates::of(&adapter).expect_err("refused").to_string();
    assert!(error.contains("modules_to_save") && error.contains("hint: hearth merge"), "{error}");
}
