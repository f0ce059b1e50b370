//! Recurrent layers against PyTorch's, see `tests/golden/recurrent.py`; and networks that learn from little.

use crate::golden::{Golden, close};
use hearth_model::Weights;
use hearth_tensor::nn::{self, Cell};
use hearth_tensor::{Rng, Tensor};
use hearth_train::classical::crf::Template;
use hearth_train::finetune::fit::{Event, Observer};
use hearth_train::neural::{Answer, Example, Examples, Features, Kind, fit_network, usual_settings};

const LENGTHS: [usize; 3] = [4, 7, 2];
const INPUTS: usize = 5;
const STATE: usize = 6;

#[test]
fn recurrent_layers_as_in_torch() {
    let golden = Golden::read("recurrent.safetensors");
    for (name, cell) in [("rnn", Cell::Rnn), ("lstm", Cell::Lstm), ("gru", Cell::Gru)] {
        let wide = cell.gates() * STATE;
        let read = |key: &str, shape: &[usize]| {
            Tensor::from_vec(golden.floats(&format!("{name}.{key}")), shape).expect("the shape").parameter()
        };
        let x = Tensor::from_vec(golden.floats("x"), &[13, INPUTS]).expect("the shape").parameter();
        let mut parameters = Vec::new();
        let mut states = Vec::new();
        for end in ["l0", "l0_reverse"] {
            let keys = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map(|key| format!("{key}_{end}"));
            let shapes: [&[usize]; 4] = [&[wide, INPUTS], &[wide, STATE], &[wide], &[wide]];
            let [w_ih, w_hh, b_ih, b_hh] = [0, 1, 2, 3].map(|i| read(&keys[i], shapes[i]));
            let brought = nn::linear(&x, &w_ih, Some(&b_ih), None).expect("a layer");
            let reverse = end.ends_with("reverse");
            states.push(nn::recurrent(cell, &brought, &w_hh, &b_hh, &LENGTHS, reverse).expect("a layer"));
            parameters.extend(keys.into_iter().zip([w_ih, w_hh, b_ih, b_hh]));
        }
        let y = Tensor::concat(&states.iter().collect::<Vec<_>>(), 1).expect("two directions");
        close(name, y.data(), &golden.floats(&format!("{name}.y")), 1e-6);
        y.backward_from(read("dy", &[13, 2 * STATE]).detach()).expect("gradients");
        close("dx", x.grad().expect("a gradient").data(), &golden.floats(&format!("{name}.dx")), 1e-5);
        for (key, parameter) in parameters {
            let gradient = parameter.grad().expect("a gradient");
            close(&key, gradient.data(), &golden.floats(&format!("{name}.d{key}")), 1e-5);
        }
    }
}

/// `a` and `b` in any order; `c` repeats what came last before it.
fn repeats(count: usize) -> (Vec<Vec<String>>, Vec<Vec<usize>>) {
    let (mut sentences, mut tags, mut rng) = (Vec::new(), Vec::new(), Rng::new(11));
    for _ in 0..count {
        let mut last = 0;
        let (words, own): (Vec<String>, Vec<usize>) = (0..8)
            .map(|_| {
                let word = rng.below(3) as usize;
                last = if word < 2 { word } else { last };
                (["a", "b", "c"][word].to_owned(), last)
            })
            .unzip();
        sentences.push(words);
        tags.push(own);
    }
    (sentences, tags)
}

#[test]
fn networks_learn_to_tag_and_runs_repeat_to_the_bit() {
    let (sentences, tags) = repeats(130);
    let features = Features::of_sentences(&sentences, Template::Words).expect("words");
    let tokens: Vec<Vec<Vec<u32>>> = sentences.iter().map(|words| features.sentence(words)).collect();
    let training: Vec<Example> = tokens[..100]
        .iter()
        .zip(&tags)
        .map(|(tokens, labels)| Example { tokens: tokens.clone(), labels: labels.clone() })
        .collect();
    let gold = &tags[100..];
    let score = |found: &[Vec<usize>]| {
        let pairs = gold.iter().flatten().zip(found.iter().flatten());
        pairs.filter(|(gold, found)| gold == found).count() as f64 / 240.0
    };
    let examples = Examples {
        training: &training,
        heldout: &tokens[100..],
        score: &score,
        metric: "accuracy",
        features: features.len(),
        labels: 2,
    };
    let fit = |kind, answer| {
        let settings = usual_settings(answer, training.len(), 1);
        fit_network(kind, answer, &examples, &settings, &mut Silent).expect("learns")
    };
    for kind in Kind::ALL {
        let right = score(&fit(kind, Answer::TagsInARow).labels);
        assert!(right > 0.9, "{kind:?}: {right}");
    }
    let [once, again] = [(); 2].map(|()| fit(Kind::Gru, Answer::Tags));
    assert!(score(&once.labels) > 0.9);
    let data = |weights: &Weights| -> Vec<Vec<f32>> {
        weights.tensors().iter().map(|tensor| tensor.data().to_vec()).collect()
    };
    assert_eq!(data(&once.fitted.weights), data(&again.fitted.weights));
}

struct Silent;

impl Observer for Silent {
    fn say(&mut self, _: &str) {}
    fn event(&mut self, _: &Event) {}
    fn stop(&mut self) -> bool {
        false
    }
}
