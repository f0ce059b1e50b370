//! The coarse operations: gradients, values on small cases, and what they refuse.

use crate::gradcheck::{check, check_with, randn};
use hearth_kernel::activation::Activation;
use hearth_kernel::attention::{Span, spans_causal, spans_full, spans_segments};
use hearth_kernel::rope::RopeTable;
use hearth_tensor::nn::{self, CrossEntropyOptions};
use hearth_tensor::{HalfTensor, HalfType, Tensor, no_grad};
use std::slice::from_ref;
use std::sync::Arc;

const SMOOTH: [Activation; 5] =
    [Activation::GeluErf, Activation::GeluTanh, Activation::Silu, Activation::Tanh, Activation::Sigmoid];

#[test]
fn linear_layers_have_the_gradients_of_their_definition() {
    let (x, b) = (randn(&[2, 3, 5], 1), randn(&[4], 3));
    check(&[x.clone(), randn(&[4, 5], 2)], |t| nn::linear(&t[0], &t[1], None, None));
    check(&[x.clone(), randn(&[5, 4], 2), b.clone()], |t| nn::linear_in_out(&t[0], &t[1], Some(&t[2]), None));
    for kind in SMOOTH {
        check(&[x.clone(), randn(&[4, 5], 2), b.clone()], |t| {
            nn::linear(&t[0], &t[1], Some(&t[2]), Some(kind))
        });
    }
}

#[test]
fn low_rank_updates_have_the_gradients_of_their_definition() {
    let operands = [randn(&[2, 3, 4], 1), randn(&[2, 3, 5], 2), randn(&[2, 5], 3), randn(&[4, 2], 4)];
    check(&operands, |t| nn::add_low_rank(t[0].scale(1.0), &t[1], &t[2], &t[3], 0.5));
}

#[test]
fn a_frozen_weight_changes_no_gradient_but_its_own() {
    let (x, w, b) = (randn(&[6, 5], 1), randn(&[4, 5], 2), randn(&[4], 3));
    let gradients = |layer: &dyn Fn(&Tensor, &Tensor) -> Tensor| {
        let (x, b) = (x.parameter(), b.parameter());
        layer(&x, &b).backward_from(randn(&[6, 4], 4)).unwrap();
        [x.grad().unwrap(), b.grad().unwrap()].map(|t| t.data().to_vec())
    };
    // In 16 bits exactly.
    let half = HalfTensor::new(&w, HalfType::Bf16);
    let w = half.to_f32();
    let kind = Some(Activation::Tanh);
    let trained = gradients(&|x, b| nn::linear(x, &w.parameter(), Some(b), kind).unwrap());
    assert_eq!(gradients(&|x, b| nn::linear(x, &w, Some(b), kind).unwrap()), trained);
    assert_eq!(gradients(&|x, b| nn::linear_half(x, &half, Some(b), kind, false).unwrap()), trained);

    let head = |w: &Tensor| {
        let x = x.parameter();
        let out =
            nn::linear_cross_entropy(&x, w, None, &[0, 3, -1, 1, 2, 2], &CrossEntropyOptions::default())
                .unwrap();
        out.loss.backward().unwrap();
        (out.loss.item().unwrap(), x.grad().unwrap().data().to_vec(), w.grad().is_some())
    };
    let (frozen, trained) = (head(&w), head(&w.parameter()));
    assert_eq!((frozen.0, frozen.1), (trained.0, trained.1));
    assert_eq!((frozen.2, trained.2), (false, true));
}

#[test]
fn rows_of_a_table_in_half_precision() {
    let table = randn(&[5, 3], 1);
    let half = HalfTensor::new(&table, HalfType::F16);
    let expect = nn::embedding(&half.to_f32(), &[4, 0, 4]).unwrap();
    assert_eq!(half.rows(&[4, 0, 4]).unwrap().data(), expect.data());
    assert_eq!(half.rows(&[5]).unwrap_err().to_string(), "rows: id 5 is out of range for 5");
}

#[test]
fn activations_and_swiglu() {
    for kind in SMOOTH {
        check(&[randn(&[3, 7], 4)], |t| Ok(nn::activation(&t[0], kind)));
    }
    // Away from the kink.
    let x = Tensor::from_vec(vec![-2.0, -0.5, 0.5, 1.5], &[4]).unwrap();
    for kind in [Activation::Relu, Activation::Relu2] {
        check(from_ref(&x), |t| Ok(nn::activation(&t[0], kind)));
    }
    check(&[randn(&[3, 7], 5), randn(&[3, 7], 6)], |t| nn::swiglu(&t[0], &t[1]));
}

#[test]
fn norms() {
    let (x, gamma, beta) = (randn(&[2, 3, 6], 7), randn(&[6], 8), randn(&[6], 9));
    check(&[x.clone(), gamma.clone(), beta], |t| nn::layer_norm(&t[0], &t[1], Some(&t[2]), 1e-5));
    check(&[x.clone(), gamma.clone()], |t| nn::layer_norm(&t[0], &t[1], None, 1e-5));
    check(&[x, gamma], |t| nn::rms_norm(&t[0], &t[1], 1e-6));
}

#[test]
fn embeddings_add_the_gradients_of_repeated_ids() {
    check(&[randn(&[5, 3], 10)], |t| nn::embedding(&t[0], &[4, 0, 4, 2]));
    let error = nn::embedding(&randn(&[5, 3], 10), &[1, 5]).unwrap_err();
    assert_eq!(error.to_string(), "embedding: id 5 is out of range for 5");
}

fn spans_of(kind: &str, t: usize) -> Arc<[Span]> {
    match kind {
        "causal" => spans_causal(2, t, t),
        "full" => spans_full(2, t, t),
        "documents" => {
            let row = |cut: usize| (0..t).map(move |i| u32::from(i >= cut));
            spans_segments(&row(2).chain(row(4)).collect::<Vec<_>>(), 2, true)
        }
        _ => (0..2 * t).map(|i| Span { lo: 0, hi: (i % 3) as u32 }).collect(),
    }
    .into()
}

#[test]
fn attention_under_every_mask_and_grouping() {
    for kind in ["causal", "full", "documents", "some see nothing"] {
        let spans = spans_of(kind, 5);
        for kv_heads in [1, 2, 4] {
            let (q, k) = (randn(&[2, 5, 4, 3], 11), randn(&[2, 5, kv_heads, 3], 12));
            check(&[q, k, randn(&[2, 5, kv_heads, 3], 13)], |t| {
                nn::attention(&t[0], &t[1], &t[2], &spans, 0.6)
            });
        }
    }
}

#[test]
fn fused_attention_equals_attention_of_its_parts() {
    let (b, t, h, d) = (2, 37, 3, 8);
    let spans: Arc<[Span]> = spans_causal(b, t, t).into();
    let qkv = randn(&[b, t, 3 * h * d], 14).parameter();
    let part = |which: usize| {
        let rows = qkv.data().chunks_exact(h * d).skip(which).step_by(3);
        Tensor::from_vec(rows.flatten().copied().collect(), &[b, t, h, d]).unwrap().parameter()
    };
    let (q, k, v) = (part(0), part(1), part(2));
    let fused = nn::attention_qkv(&qkv, h, &spans, 0.3).unwrap();
    let plain = nn::attention(&q, &k, &v, &spans, 0.3).unwrap();
    assert_eq!(fused.data(), plain.data());
    let dy = randn(fused.shape(), 15);
    fused.backward_from(dy.clone()).unwrap();
    plain.backward_from(Tensor::from_slice(dy.data(), plain.shape()).unwrap()).unwrap();
    let dqkv = qkv.grad().unwrap();
    for (which, part) in [q, k, v].iter().enumerate() {
        let rows = dqkv.data().chunks_exact(h * d).skip(which).step_by(3);
        assert_eq!(rows.flatten().copied().collect::<Vec<_>>(), part.grad().unwrap().data());
    }
    check(&[randn(&[2, 4, 12], 16)], |t| nn::attention_qkv(&t[0], 2, &spans_of("causal", 4), 0.5));
}

#[test]
fn rotary_positions() {
    let table = Arc::new(RopeTable::new(4, 16, 100.0));
    let positions: Arc<[u32]> = vec![0, 3, 7, 2, 5, 15].into();
    check(&[randn(&[2, 3, 2, 4], 17)], |t| nn::rope(&t[0], &positions, &table));
    let late: Arc<[u32]> = vec![0, 1, 16].into();
    let error = nn::rope(&randn(&[1, 3, 2, 4], 17), &late, &table).unwrap_err();
    assert_eq!(error.to_string(), "rope: position 16 is out of range for 16");
}

const OPTIONS: [CrossEntropyOptions; 3] = [
    CrossEntropyOptions { label_smoothing: 0.0, z_loss: 0.0, chunk: 0 },
    CrossEntropyOptions { label_smoothing: 0.1, z_loss: 0.0, chunk: 3 },
    CrossEntropyOptions { label_smoothing: 0.05, z_loss: 0.01, chunk: 1 },
];

#[test]
fn cross_entropy_alone_and_fused_with_the_head() {
    let targets = [3, -1, 0, 8, 8, -1, 2];
    for options in OPTIONS {
        check(&[randn(&[7, 9], 18)], |t| Ok(nn::cross_entropy(&t[0], &targets, &options)?.loss));
        let (hidden, head, bias) = (randn(&[7, 4], 19), randn(&[9, 4], 20), randn(&[9], 27));
        check(&[hidden.clone(), head.clone()], |t| {
            Ok(nn::linear_cross_entropy(&t[0], &t[1], None, &targets, &options)?.loss)
        });
        check(&[hidden.clone(), head.clone(), bias.clone()], |t| {
            Ok(nn::linear_cross_entropy(&t[0], &t[1], Some(&t[2]), &targets, &options)?.loss)
        });
        let fused = nn::linear_cross_entropy(&hidden, &head, Some(&bias), &targets, &options).unwrap();
        let logits = nn::linear(&hidden, &head, Some(&bias), None).unwrap();
        let plain = nn::cross_entropy(&logits, &targets, &options).unwrap();
        assert_eq!((fused.count, plain.count), (5, 5));
        assert!((fused.sum - plain.sum).abs() < 1e-5, "{} and {}", fused.sum, plain.sum);
        let quiet =
            no_grad(|| nn::linear_cross_entropy(&hidden.parameter(), &head, Some(&bias), &targets, &options));
        assert_eq!(quiet.unwrap().sum, fused.sum, "without gradients the loss is the same");
    }
}

#[test]
fn a_batch_without_targets_has_no_loss_and_no_gradient() {
    let hidden = randn(&[3, 4], 21).parameter();
    let out = nn::linear_cross_entropy(&hidden, &randn(&[5, 4], 22), None, &[-1; 3], &OPTIONS[0]).unwrap();
    assert_eq!((out.count, out.sum, out.loss.item().unwrap()), (0, 0.0, 0.0));
    out.loss.backward().unwrap();
    assert!(hidden.grad().unwrap().data().iter().all(|&g| g == 0.0));
}

#[test]
fn a_two_layer_network_end_to_end() {
    let inputs = [randn(&[4, 3], 23), randn(&[6, 3], 24), randn(&[6], 25), randn(&[5, 6], 26)];
    check_with(&inputs, 1e-2, 4e-3, |t| {
        let hidden = nn::linear(&t[0], &t[1], Some(&t[2]), Some(Activation::GeluErf))?;
        Ok(nn::linear_cross_entropy(&hidden, &t[3], None, &[1, 2, -1, 0], &OPTIONS[0])?.loss)
    });
}

#[test]
fn errors_name_the_operation_and_the_shapes() {
    let x = randn(&[2, 3], 1);
    let texts = [
        nn::linear(&x, &randn(&[4, 5], 1), None, None).unwrap_err().to_string(),
        nn::linear(&x, &randn(&[4, 3], 1), Some(&randn(&[3], 1)), None).unwrap_err().to_string(),
        nn::layer_norm(&x, &randn(&[2], 1), None, 1e-5).unwrap_err().to_string(),
        nn::cross_entropy(&x, &[0, 3], &OPTIONS[0]).unwrap_err().to_string(),
        nn::linear_cross_entropy(&x, &x, Some(&randn(&[3], 1)), &[0, 1], &OPTIONS[0])
            .unwrap_err()
            .to_string(),
        nn::attention_qkv(&randn(&[1, 2, 7], 1), 2, &spans_of("causal", 1), 1.0).unwrap_err().to_string(),
    ];
    assert_eq!(
        texts,
        [
            "linear: expected x [.., in] and weight [out, in], got [2, 3] and [4, 5]",
            "linear: expected a bias [4], got [3]",
            "layer_norm: expected x [.., C] and gamma [C], got [2, 3] and [2]",
            "cross_entropy: target 3 is out of range for 3",
            "linear_cross_entropy: expected a bias [2], got [3]",
            "attention_qkv: expected [B, T, 3C] with C a multiple of 2 heads, got [1, 2, 7]",
        ]
    );
}

#[test]
fn recurrent_layers_have_the_gradients_of_their_definition() {
    for cell in [nn::Cell::Rnn, nn::Cell::Lstm, nn::Cell::Gru] {
        let wide = cell.gates() * 3;
        let operands = [randn(&[7, wide], 1), randn(&[wide, 3], 2), randn(&[wide], 3)];
        for reverse in [false, true] {
            check(&operands, |t| nn::recurrent(cell, &t[0], &t[1], &t[2], &[2, 4, 1], reverse));
        }
        let [x, weight, bias] = &operands;
        let together = nn::recurrent(cell, x, weight, bias, &[2, 4, 1], true).unwrap();
        let alone = nn::recurrent(cell, &x.slice(0, 2..6).unwrap(), weight, bias, &[4], true).unwrap();
        assert_eq!(together.data()[2 * 3..6 * 3], *alone.data(), "{cell:?}: company changed a sequence");
        assert!(nn::recurrent(cell, x, weight, bias, &[2, 4], false).is_err());
        assert!(nn::recurrent(cell, x, weight, &randn(&[wide + 1], 4), &[7], false).is_err());
    }
}

#[test]
fn sums_of_rows_have_the_gradients_of_their_definition() {
    let x = randn(&[4, 3], 1);
    check(from_ref(&x), |t| nn::sum_rows(&t[0], &[2, 0, 2, 3], 5));
    let y = nn::sum_rows(&x, &[2, 0, 2, 3], 5).unwrap();
    let sum: Vec<f32> = (0..3).map(|i| x.data()[i] + x.data()[6 + i]).collect();
    assert_eq!((&y.data()[6..9], &y.data()[3..6]), (&sum[..], &[0.0; 3][..]));
    assert!(nn::sum_rows(&x, &[2, 0, 2], 5).is_err());
    assert!(nn::sum_rows(&x, &[2, 0, 2, 5], 5).is_err());
}
