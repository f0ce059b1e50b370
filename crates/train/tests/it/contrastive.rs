//! The loss over queries and texts against sentence-transformers'; see `tests/golden/contrastive.py`.

use crate::golden::{Golden, close, golden};
use hearth_engine::Pooling;
use hearth_model::EncoderFolder;
use hearth_model::tape::{TokenBatch, TrainableEncoder};
use hearth_tensor::Tensor;
use hearth_train::finetune::embed::{Choices, contrastive_loss, pooled};

const LENGTHS: [usize; 9] = [5, 3, 7, 9, 4, 6, 8, 11, 2];
const QUERIES: usize = 3;
const SCALE: f32 = 20.0;

/// The loss of so many texts, the gradients being those of `name`.
#[track_caller]
fn check(name: &str, pooling: Pooling, texts: usize) {
    let expected = Golden::read("contrastive/golden.safetensors");
    let folder = EncoderFolder::open(&golden("contrastive")).expect("transformers' folder opens");
    let (encoder, weights) = (TrainableEncoder::new(folder.encoder), folder.weights);
    let ids = expected.ids("input_ids");
    let mut rest = &ids[..];
    let sequences = LENGTHS.map(|length| {
        let (own, others) = rest.split_at(length);
        rest = others;
        own
    });
    let batch = TokenBatch::bidirectional(&sequences[..QUERIES + texts]);
    let choices =
        Choices { texts: (0..texts).collect(), targets: (0..QUERIES as i32).collect(), excluded: Vec::new() };
    let hidden = encoder.hidden(&weights, &batch).expect("runs");
    let vectors = pooled(&hidden, &batch, pooling).expect("pools");
    let loss = contrastive_loss(&vectors, &choices, SCALE).expect("a loss");
    close("loss", &[loss.item().expect("a scalar")], &expected.floats(&format!("{name}.loss")), 2e-6);
    loss.backward().expect("gradients");
    let mut compared = 0;
    for (spec, tensor) in encoder.encoder().specs().iter().zip(weights.tensors()) {
        let gradient = tensor.grad().unwrap_or_else(|| panic!("{} has no gradient", spec.name));
        let wanted = expected.floats(&format!("{name}.grad.{}", spec.name));
        close(&spec.name, gradient.data(), &wanted, 1e-5);
        compared += 1;
    }
    assert_eq!(compared, encoder.encoder().specs().len());
}

#[test]
fn the_other_texts_of_a_batch_are_negatives() {
    check("in_batch", Pooling::Mean, 3);
}

#[test]
fn hard_negatives_are_more_texts() {
    check("hard", Pooling::Mean, 6);
}

#[test]
fn the_first_token_may_stand_for_all() {
    check("cls", Pooling::Cls, 6);
}

#[test]
fn what_does_not_count_changes_neither_loss_nor_gradient() {
    // Two queries and three texts; the third text belongs to the first query too.
    let values = [0.6, 0.8, 1.0, 0.0, 0.0, 1.0, 0.8, 0.6, 0.28, 0.96];
    let loss_of = |texts: usize, excluded: Vec<(usize, usize)>, targets: Vec<i32>, row: usize| {
        let vectors =
            Tensor::from_slice(&values[..2 * (2 + texts)], &[2 + texts, 2]).expect("fits").parameter();
        let choices = Choices { texts: (0..texts).collect(), targets, excluded };
        let loss = contrastive_loss(&vectors, &choices, 5.0).expect("a loss");
        loss.backward().expect("gradients");
        let gradient = vectors.grad().expect("a gradient").data()[2 * row..2 * row + 2].to_vec();
        (loss.item().expect("a scalar"), gradient)
    };
    let excluded = loss_of(3, vec![(0, 2), (1, 2)], vec![0, 1], 0);
    let absent = loss_of(2, vec![], vec![0, 1], 0);
    assert_eq!(excluded, absent);
    let gradient = loss_of(3, vec![(0, 2), (1, 2)], vec![0, 1], 4).1;
    assert_eq!(gradient, [0.0, 0.0]);
    let counted = loss_of(3, vec![(0, 2)], vec![0, 1], 0);
    assert!(counted.0 > absent.0, "{counted:?} {absent:?}");
}
