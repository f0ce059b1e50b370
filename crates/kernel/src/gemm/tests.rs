//! The matrix product against a plain loop in `f64`, and against itself.

use super::*;
use crate::arch::{Isa, with_isa};
use proptest::prelude::*;

/// A deterministic stand-in for random numbers, in -1..1.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn view(data: &[f32], rows: usize, cols: usize, transposed: bool) -> Mat<'_> {
    if transposed { Mat::new(data, cols, rows).t() } else { Mat::new(data, rows, cols) }
}

fn at(m: &Mat, i: usize, j: usize) -> f64 {
    f64::from(m.data[i * m.row_stride + j * m.col_stride])
}

fn check(m: usize, k: usize, n: usize, ta: bool, tb: bool, write: Write) {
    let (a, b, old) = (noise(m * k, 1), noise(k * n, 2), noise(m * n, 3));
    let bias = noise(n, 4);
    let (a, b) = (view(&a, m, k, ta), view(&b, k, n, tb));
    for isa in Isa::available() {
        let (mut c, mut pre) = (old.clone(), vec![0.0; m * n]);
        let epilogue = Epilogue {
            bias: Some(&bias),
            activation: Some(Activation::Relu),
            pre_activation: Some(&mut pre),
        };
        with_isa(isa, || gemm_with(a, b, MatMut::new(&mut c, m, n), write, epilogue));
        for i in 0..m {
            for j in 0..n {
                let start = if write == Write::Accumulate { f64::from(old[i * n + j]) } else { 0.0 };
                let sum: f64 = (0..k).map(|l| at(&a, i, l) * at(&b, l, j)).sum();
                let want = start + sum + f64::from(bias[j]);
                let tolerance = 1e-6 * (k as f64 + 4.0).sqrt() * 4.0;
                let got = f64::from(pre[i * n + j]);
                assert!((got - want).abs() < tolerance, "{isa:?} {m}x{k}x{n} at {i},{j}: {got} != {want}");
                assert_eq!(c[i * n + j], pre[i * n + j].max(0.0));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn equals_the_plain_loop(m in 0usize..70, k in 0usize..300, n in 0usize..70, ta: bool, tb: bool, acc: bool) {
        check(m, k, n, ta, tb, if acc { Write::Accumulate } else { Write::Overwrite });
    }

    #[test]
    fn a_row_has_the_same_bits_alone(m in 1usize..40, k in 1usize..600, n in 1usize..80) {
        let (a, b) = (noise(m * k, 5), noise(k * n, 6));
        let mut all = vec![0.0; m * n];
        gemm(Mat::new(&a, m, k), Mat::new(&b, k, n), MatMut::new(&mut all, m, n), Write::Overwrite);
        let packed = PackedMatrix::pack(Mat::new(&b, k, n));
        for i in 0..m {
            let mut one = vec![0.0; n];
            gemm_packed(Mat::new(&a[i * k..], 1, k), &packed, MatMut::new(&mut one, 1, n), Write::Overwrite, Epilogue::default());
            prop_assert_eq!(&one[..], &all[i * n..][..n]);
        }
    }
}

#[test]
fn large_shapes_cross_every_block_boundary() {
    check(MC * 2 + 5, KC * 2 + 3, NR * 20 + 7, false, true, Write::Accumulate);
    check(MC * 9 + 1, 8, NR + 1, true, false, Write::Overwrite);
    check(2, 17, NC + 9, false, false, Write::Overwrite);
}

#[test]
fn the_thread_count_changes_no_bit() {
    let (m, k, n) = (150, 700, 130);
    let (a, b) = (noise(m * k, 7), noise(k * n, 8));
    let run = || {
        let mut c = vec![0.0; m * n];
        gemm(Mat::new(&a, m, k), Mat::new(&b, k, n), MatMut::new(&mut c, m, n), Write::Overwrite);
        c
    };
    let many = run();
    let mut alone = Vec::new();
    // Inside a task everything runs on one thread.
    let slot = std::sync::Mutex::new(&mut alone);
    pool::parallel_for(2, |i| {
        if i == 0 {
            **slot.lock().unwrap() = run();
        }
    });
    assert_eq!(many, alone);
}

#[test]
fn batches_and_strided_views() {
    let (batch, m, k, n) = (5, 7, 9, 11);
    let (a, b) = (noise(batch * m * k, 9), noise(batch * k * n, 10));
    let mut c = vec![0.0; batch * m * n];
    gemm_batched(batch, &a, true, &b, true, &mut c, m, k, n, Write::Overwrite);
    for i in 0..batch {
        let mut one = vec![0.0; m * n];
        let (a, b) = (view(&a[i * m * k..], m, k, true), view(&b[i * k * n..], k, n, true));
        gemm(a, b, MatMut::new(&mut one, m, n), Write::Overwrite);
        assert_eq!(one, c[i * m * n..][..m * n]);
    }
    // The middle third of a wider matrix, written into the middle of a wider C.
    let wide = noise(m * 3 * k, 11);
    let third = Mat::strided(&wide[k..], m, k, 3 * k, 1);
    let mut c = vec![1.0; m * 20];
    gemm(third, Mat::new(&b, k, n), MatMut::strided(&mut c[4..], m, n, 20), Write::Overwrite);
    for i in 0..m {
        for j in 0..20 {
            let want = if (4..4 + n).contains(&j) {
                (0..k).map(|l| wide[i * 3 * k + k + l] * b[l * n + j - 4]).sum()
            } else {
                1.0f32
            };
            assert!((c[i * 20 + j] - want).abs() < 1e-5);
        }
    }
}

#[test]
fn sets_that_round_once_give_the_same_bits() {
    let sets: Vec<Isa> = Isa::available().into_iter().filter(|&isa| isa != Isa::Scalar).collect();
    for (m, k, n) in [(1, 5, 3), (13, 300, 33), (97, 64, 200), (150, 700, 130)] {
        let (a, b, old) = (noise(m * k, 12), noise(k * n, 13), noise(m * n, 14));
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            let run = |&isa: &Isa| {
                let mut c = old.clone();
                let (a, b) = (view(&a, m, k, ta), view(&b, k, n, tb));
                with_isa(isa, || gemm(a, b, MatMut::new(&mut c, m, n), Write::Accumulate));
                c
            };
            let results: Vec<Vec<f32>> = sets.iter().map(run).collect();
            assert!(results.windows(2).all(|two| two[0] == two[1]), "{m}x{k}x{n}, {ta}, {tb}");
        }
    }
}

#[test]
fn a_symmetric_product_is_the_whole_one() {
    for (n, k) in [(1, 3), (31, 7), (64, 20), (200, 90)] {
        let x = noise(n * k, 15);
        let x = Mat::new(&x, n, k);
        let (mut whole, mut half) = (vec![0.0; n * n], vec![9.0; n * n]);
        gemm(x, x.t(), MatMut::new(&mut whole, n, n), Write::Overwrite);
        gemm_symmetric(x, x.t(), &mut half);
        assert_eq!(whole, half, "{n}x{k}");
    }
}

#[test]
fn tiles_are_products_too() {
    for (m, k, n, first, depth) in
        [(24, 64, 40, 0, 64), (5, 30, 17, 7, 20), (48, 9, 64, 3, 1), (3, 8, 5, 2, 0)]
    {
        let (a, b, old) = (noise(m * depth, 16), noise(k * n, 17), noise(m * n, 18));
        let mut memory = vec![7.0; PackedTile::len(k, n)];
        let packed = PackedTile::pack(Mat::new(&b, k, n), &mut memory).rows(first, depth);
        let part = Mat::new(&b[first * n..], depth, n);
        for (transposed, write) in [(false, Write::Overwrite), (true, Write::Accumulate)] {
            let a = view(&a, m, depth, transposed);
            let (mut want, mut got) = (old.clone(), old.clone());
            gemm(a, part, MatMut::new(&mut want, m, n), write);
            gemm_tile(a, packed, MatMut::new(&mut got, m, n), write);
            assert_eq!(want, got, "{m}x{depth}x{n}");
        }
    }
}

#[test]
fn half_precision_gives_the_bits_of_its_values() {
    use crate::quant::{BlockType, dequantize, quantize};
    let row_of = |i: usize| (i * 7 + 3) % 50;
    for (kind, k) in
        [(BlockType::F32, 300), (BlockType::F16, 300), (BlockType::Bf16, 517), (BlockType::Q6K, 512)]
    {
        let values = noise(50 * k, 12);
        let mut bytes = vec![0; kind.bytes_for(50 * k).expect("whole blocks")];
        quantize(kind, &values, k, None, &mut bytes).expect("finite");
        let mut kept = vec![0.0; 50 * k];
        dequantize(kind, &bytes, &mut kept);
        let ordered: Vec<f32> = (0..50).flat_map(|i| kept[row_of(i) * k..][..k].to_vec()).collect();
        let packed = PackedMatrix::pack_rows(kind, &bytes, 50, k, row_of);
        for m in [1, 2, 3, 4, 5, 30] {
            let a = noise(m * k, 13);
            let (mut got, mut expected) = (vec![0.0; m * 50], vec![0.0; m * 50]);
            let out = MatMut::new(&mut got, m, 50);
            gemm_packed(Mat::new(&a, m, k), &packed, out, Write::Overwrite, Epilogue::default());
            let b = Mat::new(&ordered, 50, k).t();
            gemm(Mat::new(&a, m, k), b, MatMut::new(&mut expected, m, 50), Write::Overwrite);
            assert_eq!(got, expected, "{kind} with {m} rows");
        }
    }
}
