//! The small operations: gradients, values against plain loops, and what they refuse.

use crate::gradcheck::{check, randn};
use hearth_tensor::{Rng, Tensor, TensorError};
use proptest::prelude::*;
use std::slice::from_ref;

/// Values in 0.5..2, where logarithms, roots and quotients are smooth.
fn positive(shape: &[usize], seed: u64) -> Tensor {
    Tensor::uniform(shape, 0.5, 2.0, &mut Rng::new(seed))
}

/// Distinct values a tenth apart, shuffled: no small step changes which of them is the largest.
fn spaced(shape: &[usize], offset: f32, seed: u64) -> Tensor {
    let (mut x, mut rng) = (Tensor::zeros(shape), Rng::new(seed));
    x.data_mut().iter_mut().enumerate().for_each(|(i, x)| *x = 0.1 * i as f32 + offset);
    for i in (1..x.len()).rev() {
        x.data_mut().swap(i, rng.below(i as u64 + 1) as usize);
    }
    x
}

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape).expect("as many values as the shape holds")
}

#[test]
fn arithmetic_broadcasts_both_ways() {
    let shapes: [[&[usize]; 2]; 5] =
        [[&[2, 3], &[2, 3]], [&[2, 3], &[3]], [&[2, 1], &[1, 3]], [&[3], &[2, 2, 3]], [&[2, 3], &[]]];
    for [a, b] in shapes {
        let inputs = [positive(a, 1), positive(b, 2)];
        check(&inputs, |t| t[0].add(&t[1]));
        check(&inputs, |t| t[0].sub(&t[1]));
        check(&inputs, |t| t[0].mul(&t[1]));
        check(&inputs, |t| t[0].div(&t[1]));
        let inputs = [spaced(a, 0.0, 1), spaced(b, 0.15, 2)];
        check(&inputs, |t| t[0].maximum(&t[1]));
        check(&inputs, |t| t[0].minimum(&t[1]));
    }
    check(&[randn(&[2, 1, 3], 3)], |t| t[0].expand(&[4, 2, 5, 3]));
    check(&[randn(&[4], 4)], |t| Ok(t[0].scale(-2.5).add_scalar(3.0)));
}

#[test]
fn operations_on_single_values() {
    let x = positive(&[3, 5], 5);
    let smooth: [fn(&Tensor) -> Tensor; 11] = [
        Tensor::neg,
        Tensor::exp,
        Tensor::log,
        Tensor::sqrt,
        Tensor::square,
        Tensor::abs,
        Tensor::recip,
        Tensor::sin,
        Tensor::cos,
        Tensor::tanh,
        Tensor::sigmoid,
    ];
    for f in smooth {
        check(from_ref(&x), |t| Ok(f(&t[0])));
        check(&[randn(&[7], 6).exp()], |t| Ok(f(&t[0].scale(0.5))));
    }
    check(&[tensor(&[-2.0, -0.5, 0.5, 1.5], &[4])], |t| Ok(t[0].relu()));
    check(&[tensor(&[-2.0, -0.5, 0.5, 1.5], &[4])], |t| Ok(t[0].abs()));
}

#[test]
fn choosing_by_a_condition() {
    let condition = tensor(&[1.0, 0.0, -1.0, 0.0, 0.0, 2.0], &[2, 3]);
    let y = condition.where_cond(&Tensor::scalar(7.0), &tensor(&[1.0, 2.0, 3.0], &[3])).unwrap();
    assert_eq!((y.shape(), y.data()), (&[2, 3][..], &[7.0, 2.0, 7.0, 1.0, 2.0, 7.0][..]));
    check(&[randn(&[2, 3], 7), randn(&[3], 8)], |t| condition.where_cond(&t[0], &t[1]));
    check(&[randn(&[2, 1], 7), randn(&[], 8)], |t| condition.where_cond(&t[0], &t[1]));
    // What isn't chosen may even be NaN: it reaches neither the value nor the gradient.
    let (bad, good) = (tensor(&[f32::NAN], &[1]).parameter(), tensor(&[1.0], &[1]).parameter());
    let chosen = Tensor::zeros(&[1]).where_cond(&bad, &good).unwrap();
    chosen.backward().unwrap();
    assert_eq!(
        (chosen.data()[0], bad.grad().unwrap().data()[0], good.grad().unwrap().data()[0]),
        (1.0, 0.0, 1.0)
    );
}

#[test]
fn reductions_along_every_axis() {
    let x = randn(&[3, 4, 5], 9);
    check(from_ref(&x), |t| Ok(t[0].sum()));
    check(from_ref(&x), |t| Ok(t[0].mean()));
    for axis in 0..3 {
        for keep in [false, true] {
            check(from_ref(&x), |t| t[0].sum_axis(axis, keep));
            check(from_ref(&x), |t| t[0].mean_axis(axis, keep));
            check(&[spaced(&[3, 4, 5], 0.0, 9)], |t| t[0].max_axis(axis, keep));
        }
    }
    let x = tensor(&[1.0, 5.0, 2.0, 4.0, 3.0, 6.0], &[2, 3]);
    let values = |t: Tensor| (t.shape().to_vec(), t.data().to_vec());
    assert_eq!(values(x.sum_axis(0, false).unwrap()), (vec![3], vec![5.0, 8.0, 8.0]));
    assert_eq!(values(x.sum_axis(1, true).unwrap()), (vec![2, 1], vec![8.0, 13.0]));
    assert_eq!(values(x.max_axis(0, false).unwrap()), (vec![3], vec![4.0, 5.0, 6.0]));
    assert_eq!(values(x.max_axis(1, true).unwrap()), (vec![2, 1], vec![5.0, 6.0]));
    assert_eq!(x.argmax_axis(1).unwrap(), [1, 2]);
    assert_eq!(tensor(&[1.0, f32::NAN, 3.0], &[3]).argmax_axis(0).unwrap(), [1]);
    assert_eq!(Tensor::zeros(&[2, 0]).sum_axis(1, false).unwrap().data(), [0.0, 0.0]);
}

#[test]
fn softmax_and_its_logarithm() {
    let x = randn(&[3, 2, 6], 10);
    check(from_ref(&x), |t| t[0].softmax());
    check(from_ref(&x), |t| t[0].log_softmax());
    let (p, log_p) = (x.softmax().unwrap(), x.log_softmax().unwrap());
    for (p, log_p) in p.data().iter().zip(log_p.data()) {
        assert!((p.ln() - log_p).abs() < 1e-5);
    }
}

#[test]
fn shapes_orders_and_parts() {
    let x = randn(&[2, 3, 4], 11);
    check(from_ref(&x), |t| t[0].reshape(&[4, 6]));
    for axes in [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]] {
        check(from_ref(&x), |t| t[0].permute(&axes));
    }
    let turned = x.permute(&[2, 0, 1]).unwrap();
    assert_eq!(turned.shape(), [4, 2, 3]);
    assert_eq!(turned.data()[(3 * 2 + 1) * 3 + 2], x.data()[(3 + 2) * 4 + 3]);
    check(from_ref(&x), |t| t[0].transpose(0, 2));
    for (axis, range) in [(0, 1..2), (1, 0..2), (2, 1..4), (2, 2..2)] {
        check(from_ref(&x), |t| t[0].slice(axis, range.clone()));
    }
    for axis in 0..3 {
        let parts = [x.slice(axis, 0..1).unwrap(), x.slice(axis, 1..x.shape()[axis]).unwrap()];
        let whole = Tensor::concat(&[&parts[0], &parts[1]], axis).unwrap();
        assert_eq!((whole.shape(), whole.data()), (x.shape(), x.data()));
        check(&parts, |t| Tensor::concat(&[&t[0], &t[1], &t[0]], axis));
    }
}

#[test]
fn gathering_and_scattering() {
    let x = randn(&[2, 3, 4], 12);
    let index: Vec<u32> = (0..2 * 5 * 4).map(|i| i * 7 % 3).collect();
    check(from_ref(&x), |t| t[0].gather(1, &index, 5));
    check(&[x.clone(), randn(&[2, 5, 4], 13)], |t| t[0].scatter_add(1, &index, &t[1]));
    let rows = tensor(&[10.0, 20.0, 30.0], &[3]).gather(0, &[2, 0, 2, 2], 4).unwrap();
    assert_eq!(rows.data(), [30.0, 10.0, 30.0, 30.0]);
    let sums = Tensor::zeros(&[3]).scatter_add(0, &[2, 0, 2, 2], &tensor(&[1.0, 2.0, 3.0, 4.0], &[4]));
    assert_eq!(sums.unwrap().data(), [2.0, 0.0, 8.0]);
}

#[test]
fn matrix_products_of_stacks() {
    let shapes: [[&[usize]; 2]; 6] = [
        [&[2, 3], &[3, 4]],
        [&[5, 2, 3], &[3, 4]],
        [&[2, 3], &[5, 3, 4]],
        [&[2, 2, 3], &[2, 3, 2]],
        [&[2, 1, 2, 3], &[3, 3, 2]],
        [&[1, 1], &[1, 1]],
    ];
    for [a, b] in shapes {
        check(&[randn(a, 14), randn(b, 15)], |t| t[0].matmul(&t[1]));
    }
    assert_eq!(Tensor::zeros(&[2, 3, 0]).matmul(&Tensor::zeros(&[0, 4])).unwrap().shape(), [2, 3, 4]);
}

proptest! {
    #[test]
    fn a_matrix_product_equals_the_plain_loop(m in 1usize..9, k in 1usize..20, n in 1usize..9, stack in 1usize..4) {
        let (a, b) = (randn(&[stack, m, k], 16), randn(&[stack, k, n], 17));
        let y = a.matmul(&b).unwrap();
        for s in 0..stack {
            for i in 0..m {
                for j in 0..n {
                    let want: f32 = (0..k).map(|l| a.data()[(s * m + i) * k + l] * b.data()[(s * k + l) * n + j]).sum();
                    prop_assert!((y.data()[(s * m + i) * n + j] - want).abs() < 1e-4);
                }
            }
        }
    }
}

#[test]
fn dropout_keeps_the_mean_and_repeats_its_mask() {
    let x = Tensor::ones(&[100, 100]).parameter();
    let y = x.dropout(0.25, 3).unwrap();
    let kept = y.data().iter().filter(|&&v| v != 0.0).count();
    assert!((7200..7800).contains(&kept), "{kept}");
    assert!(y.data().iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6));
    y.backward_from(Tensor::ones(&[100, 100])).unwrap();
    assert_eq!(x.grad().unwrap().data(), y.data());
    assert_eq!(x.dropout(0.25, 3).unwrap().data(), y.data());
    assert_ne!(x.dropout(0.25, 4).unwrap().data(), y.data());
}

fn refused(result: Result<Tensor, TensorError>, expect: &str) {
    assert_eq!(result.expect_err("it must be refused").to_string(), expect);
}

#[test]
fn errors_name_the_operation_and_the_shapes() {
    let x = randn(&[2, 3], 1);
    refused(x.add(&randn(&[2], 1)), "add: expected shapes that broadcast, got [2, 3] and [2]");
    refused(x.matmul(&x), "matmul: expected [.., M, K] and [.., K, N], got [2, 3] and [2, 3]");
    refused(x.permute(&[0, 0]), "permute: expected each of 2 axes once, got [0, 0]");
    refused(x.transpose(0, 2), "transpose: axis 2 is out of range for 2");
    refused(x.slice(1, 2..4), "slice: expected a range within 0..3 of axis 1, got 2..4");
    refused(x.sum_axis(2, true), "sum_axis: axis 2 is out of range for 2");
    refused(
        Tensor::concat(&[&x, &randn(&[3, 2], 1)], 0),
        "concat: expected shapes that differ only at axis 0, got [2, 3] and [3, 2]",
    );
    refused(x.gather(1, &[0, 3], 1), "gather: index 3 is out of range for 3");
    refused(x.gather(1, &[0], 1), "gather: expected 2 indices, [2, 1] of them, got 1");
    refused(
        x.scatter_add(1, &[0, 0, 0], &randn(&[3, 1], 1)),
        "scatter_add: expected 2 indices, [2, 1] of them, got 3",
    );
    refused(
        x.where_cond(&x, &randn(&[4], 1)),
        "where_cond: expected shapes that broadcast, got [2, 3] and [4]",
    );
    refused(x.reshape(&[5]), "reshape: expected a shape of 6 values, got [2, 3] and [5]");
    refused(Tensor::scalar(1.0).softmax(), "softmax: expected a last axis that isn't empty, got []");
    refused(x.dropout(1.0, 0), "dropout: expected a probability of at least 0 and below 1, got 1");
}
