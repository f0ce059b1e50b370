//! Row-wise kernels against plain loops in `f64`, on every instruction set, with one thread and two.

mod activation;
mod compare;
mod convert;
mod elementwise;
mod embedding;
mod loss;
mod muon;
mod norm;
mod optim;
mod quant;
mod rope;
mod softmax;
