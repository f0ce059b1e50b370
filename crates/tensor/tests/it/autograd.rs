//! The tape: shared tensors, accumulation, checkpoints, long chains, memory, threads.

use crate::gradcheck::randn;
use hearth_kernel::activation::Activation;
use hearth_tensor::{Tensor, TensorError, checkpoint, nn, no_grad};

fn layer(x: &Tensor, w: &Tensor) -> Result<Tensor, TensorError> {
    nn::linear(x, w, None, Some(Activation::Tanh))
}

#[test]
fn a_tensor_used_twice_gets_both_gradients() {
    let x = randn(&[3, 4], 1).parameter();
    let y = nn::swiglu(&x, &x).unwrap();
    y.backward_from(Tensor::ones(&[3, 4])).unwrap();
    for (x, g) in x.data().iter().zip(x.grad().unwrap().data()) {
        let s = 1.0 / (1.0 + (-x).exp());
        let expected = 2.0 * x * s + x * x * s * (1.0 - s);
        assert!((g - expected).abs() < 1e-5, "{g} {expected}");
    }
}

#[test]
fn gradients_accumulate_over_passes_until_they_are_taken() {
    let (x, w) = (randn(&[3, 4], 2), randn(&[4, 4], 3).parameter());
    let pass = || layer(&x, &w).unwrap().backward_from(Tensor::ones(&[3, 4])).unwrap();
    pass();
    let once = w.take_grad().unwrap();
    assert!(w.grad().is_none());
    pass();
    pass();
    for (twice, once) in w.grad().unwrap().data().iter().zip(once.data()) {
        assert!((twice - 2.0 * once).abs() < 1e-5);
    }
    w.zero_grad();
    assert!(w.grad().is_none());
}

#[test]
fn a_checkpoint_gives_the_same_bits_and_reaches_captured_parameters() {
    let (w1, w2) = (randn(&[4, 4], 4).parameter(), randn(&[4, 4], 5).parameter());
    let input = randn(&[3, 4], 6).parameter();
    let run = |checkpointed: bool| {
        let x = layer(&input, &w1).unwrap();
        let w = w2.clone();
        let f = move |t: &[Tensor]| layer(&layer(&t[0], &w)?, &w);
        let y = if checkpointed { checkpoint(&[&x], f) } else { f(&[x]) }.unwrap();
        y.backward_from(Tensor::ones(&[3, 4])).unwrap();
        [&w1, &w2, &input].map(|t| t.take_grad().unwrap().data().to_vec())
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn no_grad_and_detach_cut_the_history() {
    let w = randn(&[4, 4], 7).parameter();
    let x = randn(&[2, 4], 8);
    assert!(!no_grad(|| layer(&x, &w).unwrap()).requires_grad());
    assert!(layer(&x, &w).unwrap().requires_grad());
    let cut = layer(&layer(&x, &w).unwrap().detach(), &randn(&[4, 4], 9)).unwrap();
    assert_eq!(
        cut.backward_from(Tensor::ones(&[2, 4])).unwrap_err().to_string(),
        "backward: no parameter went into this tensor, or it was made inside no_grad"
    );
}

#[test]
fn recording_comes_back_after_a_panic_inside_no_grad() {
    let caught = std::panic::catch_unwind(|| no_grad(|| panic!("as a test")));
    assert!(caught.is_err() && hearth_tensor::grad_enabled());
}

#[test]
fn a_second_backward_is_an_error() {
    let y = layer(&randn(&[1, 1], 1), &randn(&[1, 1], 2).parameter()).unwrap();
    y.backward().unwrap();
    assert_eq!(
        y.backward().unwrap_err().to_string(),
        "backward: this graph was differentiated before; compute the loss again"
    );
    let wide = layer(&randn(&[2, 1], 1), &randn(&[1, 1], 2).parameter()).unwrap();
    assert_eq!(wide.backward().unwrap_err().to_string(), "backward: expected a single value, got [2, 1]");
}

#[test]
fn a_chain_of_200_000_operations_neither_overflows_backward_nor_on_drop() {
    let chain = |w: &Tensor| (0..200_000).fold(w.clone(), |x, _| x.reshape(&[1]).unwrap());
    let w = Tensor::ones(&[1]).parameter();
    chain(&w).backward().unwrap();
    assert_eq!(w.grad().unwrap().data(), [1.0]);
    drop(chain(&w));
}

#[test]
fn backward_frees_what_it_has_used() {
    let w = randn(&[8, 8], 1).parameter();
    let x = randn(&[4, 8], 2);
    let hidden = layer(&x, &w).unwrap();
    let mut shared = hidden.detach();
    let before = shared.data().as_ptr();
    let y = layer(&hidden, &w).unwrap();
    drop(hidden);
    y.backward_from(Tensor::ones(&[4, 8])).unwrap();
    // The tape's own reference is gone, so writing doesn't copy.
    assert_eq!(shared.data_mut().as_ptr(), before);
}

#[test]
fn writing_to_shared_values_copies_them() {
    let a = Tensor::zeros(&[3]);
    let mut b = a.clone();
    b.data_mut()[0] = 1.0;
    assert_eq!((a.data(), b.data()), (&[0.0, 0.0, 0.0][..], &[1.0, 0.0, 0.0][..]));
}

#[test]
fn one_thread_and_two_give_the_same_bits() {
    let (w, x) = (randn(&[300, 200], 1).parameter(), randn(&[513, 200], 2));
    let run = |threads| {
        hearth_kernel::pool::set_threads(threads);
        let y = layer(&x, &w).unwrap();
        y.backward_from(Tensor::ones(y.shape())).unwrap();
        (y.data().to_vec(), w.take_grad().unwrap().data().to_vec())
    };
    assert_eq!(run(1), run(2));
}
