//! Muon and NorMuon against a plain version of their definition.

use crate::compare::{everywhere, near, noise, wide};
use hearth_kernel::muon::*;
use proptest::prelude::*;

/// Row-major, with its shape.
#[derive(Clone)]
struct Matrix(usize, usize, Vec<f64>);

impl Matrix {
    fn t(&self) -> Matrix {
        let Matrix(rows, cols, x) = self;
        Matrix(*cols, *rows, (0..rows * cols).map(|i| x[i % rows * cols + i / rows]).collect())
    }

    fn times(&self, other: &Matrix) -> Matrix {
        let (m, k, n) = (self.0, self.1, other.1);
        let at = |i: usize| (0..k).map(|l| self.2[i / n * k + l] * other.2[l * n + i % n]).sum();
        Matrix(m, n, (0..m * n).map(at).collect())
    }

    /// `a · self + b · other`
    fn mix(&self, a: f64, other: &Matrix, b: f64) -> Matrix {
        Matrix(self.0, self.1, self.2.iter().zip(&other.2).map(|(x, y)| a * x + b * y).collect())
    }
}

const MUON: Muon = Muon {
    lr: 0.1,
    momentum: 0.9,
    beta2: 0.95,
    weight_decay: 0.1,
    nesterov: true,
    ns_steps: 5,
    grad_scale: 0.5,
};

/// As published: on the transpose where there are more rows than columns.
fn newton_schulz(g: &Matrix, steps: usize) -> Matrix {
    let tall = g.0 > g.1;
    let mut x = if tall { g.t() } else { g.clone() };
    let norm = x.2.iter().map(|x| x * x).sum::<f64>().sqrt() + 1e-7;
    x.2.iter_mut().for_each(|x| *x /= norm);
    for _ in 0..steps {
        let a = x.times(&x.t());
        let b = a.mix(-4.7750, &a.times(&a), 2.0315);
        x = x.mix(3.4445, &b.times(&x), 1.0);
    }
    if tall { x.t() } else { x }
}

/// NorMuon's part: rows over the roots of their mean squares `v`, at the norm that the matrix had.
fn normalise_rows(update: &mut Matrix, v: &mut [f64], beta2: f64) {
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let before = norm(&update.2);
    for (row, v) in update.2.chunks_exact_mut(update.1).zip(v) {
        let mean = row.iter().map(|u| u * u).sum::<f64>() / row.len() as f64;
        *v = beta2 * *v + (1.0 - beta2) * mean;
        row.iter_mut().for_each(|u| *u /= v.sqrt() + 1e-8);
    }
    let after = norm(&update.2);
    update.2.iter_mut().for_each(|u| *u *= before / after);
}

fn check(rows: usize, cols: usize, nesterov: bool, normuon: bool, muon_steps: usize) {
    let len = rows * cols;
    let (lr, mu, beta2, decay, clip) = (0.02, 0.95, 0.9, 0.1, 0.5);
    let start = noise(len, 1, 1.0);
    let grads: Vec<Vec<f32>> = (0..muon_steps as u64).map(|step| noise(len, 10 + step, 1.0)).collect();
    let (mut p, mut momentum, mut row_squares) = (wide(&start), vec![0.0; len], vec![0.0; rows]);
    for grad in &grads {
        let g: Vec<f64> = grad.iter().map(|&g| clip * f64::from(g)).collect();
        momentum.iter_mut().zip(&g).for_each(|(m, g)| *m = mu * *m + (1.0 - mu) * g);
        let ahead = |(m, g): (&f64, &f64)| if nesterov { mu * m + (1.0 - mu) * g } else { *m };
        let update = Matrix(rows, cols, momentum.iter().zip(&g).map(ahead).collect());
        let mut update = newton_schulz(&update, 5);
        if normuon {
            normalise_rows(&mut update, &mut row_squares, beta2);
        }
        let aspect = (rows as f64 / cols as f64).max(1.0).sqrt();
        p.iter_mut().zip(&update.2).for_each(|(p, u)| *p = *p * (1.0 - lr * decay) - lr * aspect * u);
    }
    let muon = Muon {
        lr: lr as f32,
        momentum: mu as f32,
        beta2: beta2 as f32,
        weight_decay: decay as f32,
        nesterov,
        ns_steps: 5,
        grad_scale: clip as f32,
    };
    let run = || {
        let (mut p, mut momentum, mut row_squares) = (start.clone(), vec![0.0; len], vec![0.0; rows]);
        for grad in &grads {
            let row_squares = normuon.then_some(&mut row_squares[..]);
            let (p, momentum) = (&mut p, &mut momentum);
            muon_step(&mut MuonMatrix { p, grad, momentum, row_squares, rows, cols }, &muon);
        }
        [p, momentum, row_squares]
    };
    for (isa, [got_p, got_momentum, got_squares]) in everywhere(run) {
        near(isa, "momentum", &got_momentum, &momentum, 1e-6);
        near(isa, "row_squares", &got_squares, &row_squares, 5e-6);
        near(isa, "p", &got_p, &p, 5e-6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn steps_equal_the_definition(rows in 1usize..50, cols in 1usize..50, nesterov: bool, normuon: bool) {
        check(rows, cols, nesterov, normuon, 3);
    }
}

#[test]
fn larger_matrices_equal_the_definition() {
    for normuon in [false, true] {
        check(200, 90, true, normuon, 1);
        check(90, 200, true, normuon, 1);
    }
}

#[test]
fn a_zero_gradient_only_decays() {
    let muon = Muon { lr: 0.5, weight_decay: 0.5, grad_scale: 1.0, ..MUON };
    for normuon in [false, true] {
        let (mut p, mut momentum, mut row_squares) = ([4.0; 6], [0.0; 6], [0.0; 2]);
        let squares = normuon.then_some(&mut row_squares[..]);
        let grad = &[0.0; 6];
        let mut matrix =
            MuonMatrix { p: &mut p, grad, momentum: &mut momentum, row_squares: squares, rows: 2, cols: 3 };
        muon_step(&mut matrix, &muon);
        assert_eq!((p, momentum, row_squares), ([3.0; 6], [0.0; 6], [0.0; 2]));
    }
}

#[test]
fn a_row_without_a_gradient_stays() {
    let (mut p, mut momentum, mut row_squares) = (vec![1.0; 6], vec![0.0; 6], [0.0; 2]);
    let grad = &[0.3, -0.1, 0.2, 0.0, 0.0, 0.0];
    let muon = Muon { weight_decay: 0.0, ..MUON };
    let row_squares = Some(&mut row_squares[..]);
    let matrix = &mut MuonMatrix { p: &mut p, grad, momentum: &mut momentum, row_squares, rows: 2, cols: 3 };
    muon_step(matrix, &muon);
    assert!(p[..3].iter().all(|x| x.is_finite() && *x != 1.0), "{p:?}");
    assert_eq!(p[3..], [1.0; 3]);
}

#[test]
fn many_matrices_side_by_side_are_each_one_step() {
    let muon = MUON;
    let shapes = [(20, 30), (1, 7), (600, 900), (40, 8), (30, 20)];
    let start: Vec<_> = shapes.iter().map(|&(r, c)| (noise(r * c, 1, 1.0), noise(r * c, 2, 1.0))).collect();
    let momenta: Vec<Vec<f32>> = shapes.iter().map(|&(r, c)| noise(r * c, 3, 0.1)).collect();
    let (mut together, mut states) = (start.clone(), momenta.clone());
    let mut squares: Vec<Vec<f32>> = shapes.iter().map(|&(rows, _)| vec![0.5; rows]).collect();
    let parts = together.iter_mut().zip(&mut states).zip(&mut squares).zip(shapes);
    let mut matrices: Vec<MuonMatrix> = parts
        .map(|((((p, grad), momentum), squares), (rows, cols))| {
            let row_squares = (rows != 20).then_some(&mut squares[..]);
            MuonMatrix { p, grad, momentum, row_squares, rows, cols }
        })
        .collect();
    muon_steps(&mut matrices, &muon);
    for (i, (rows, cols)) in shapes.into_iter().enumerate() {
        let ((mut p, grad), mut momentum) = (start[i].clone(), momenta[i].clone());
        let mut v = vec![0.5; rows];
        let row_squares = (rows != 20).then_some(&mut v[..]);
        let matrix =
            &mut MuonMatrix { p: &mut p, grad: &grad, momentum: &mut momentum, row_squares, rows, cols };
        muon_step(matrix, &muon);
        assert_eq!((&together[i].0, &states[i], &squares[i]), (&p, &momentum, &v), "{rows}x{cols}");
    }
}
