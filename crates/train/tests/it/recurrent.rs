//! Recurrent layers against PyTorch's; see `tests/golden/recurrent.py`.

use crate::golden::{Golden, close};
use hearth_tensor::Tensor;
use hearth_tensor::nn::{self, Cell};

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
