"""Muon (Keller Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024), in float32.

One step on a matrix W of R rows and C columns with gradient G and momentum buffer M (zero at first),
mu = 0.95, learning rate lr, decay lambda:

    M <- mu M + (1 - mu) G
    U  = (1 - mu) G + mu M                  (Nesterov)
    X  = U, transposed if R > C
    X <- X / (||X||_F + 1e-7)
    five times:  A = X X^T;  X <- a X + (b A + c A A) X,   (a, b, c) = (3.4445, -4.7750, 2.0315)
    O  = X, transposed back if R > C
    W <- (1 - lr lambda) W - lr sqrt(max(1, R / C)) O

NorMuon (Li et al. 2025, arXiv 2510.05491, algorithm 1) continues from O with a mean square v for each row
(zero at first), beta2 = 0.95:

    v <- beta2 v + (1 - beta2) mean over the row of O^2
    N  = O / (sqrt(v) + 1e-8), row by row;  N <- N ||O||_F / ||N||_F

and takes N for O in the last line. The paper scales N to a root mean square of 0.2 instead.

The published write-up keeps M' = mu M' + G and U' = G + mu M'. Since M = (1 - mu) M' and
U = (1 - mu) U', and U is normalised, both give the same O. The published code runs the iteration in
bfloat16; here it is float32, so that the result is determined to about 1e-5.
"""

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

MOMENTUM, LR, DECAY, BETA2 = 0.95, 0.02, 0.1, 0.95
A, B, C = 3.4445, -4.7750, 2.0315
NEWTON_SCHULZ_STEPS, STEPS = 5, 3
SHAPES = [(16, 48), (48, 16), (32, 32)]


def orthogonalise(update: Tensor) -> Tensor:
    """Newton–Schulz: replaces the singular values of `update` `[R, C]` by values near one."""
    tall = update.shape[0] > update.shape[1]
    x = update.T if tall else update
    x = x / (x.norm() + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.T if tall else x


def direction(momentum: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The orthogonalised update and the new momentum buffer."""
    momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
    return orthogonalise((1 - MOMENTUM) * gradient + MOMENTUM * momentum), momentum


def normalise_rows(update: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """NorMuon's update at the norm of `update`, and the new mean squares of its rows."""
    squares = BETA2 * squares + (1 - BETA2) * update.square().mean(dim=1)
    normalised = update / (squares.sqrt() + 1e-8)[:, None]
    return normalised * (update.norm() / normalised.norm()), squares


def step(weight: Tensor, update: Tensor) -> Tensor:
    """The weight after one step."""
    rows, columns = weight.shape
    scale = max(1.0, rows / columns) ** 0.5
    return (1 - LR * DECAY) * weight - LR * scale * update


def write(path: Path) -> None:
    """Three steps on each shape with fixed gradients."""
    generator = torch.Generator().manual_seed(91)
    values = {"hyper": torch.tensor([LR, MOMENTUM, DECAY, BETA2])}
    for rows, columns in SHAPES:
        key = f"{rows}x{columns}"
        weight = torch.randn(rows, columns, generator=generator)
        normuon, momentum, squares = weight, torch.zeros(rows, columns), torch.zeros(rows)
        values[f"{key}.weight.0"] = weight
        for i in range(1, STEPS + 1):
            gradient = 0.1 * torch.randn(rows, columns, generator=generator)
            update, momentum = direction(momentum, gradient)
            weight = step(weight, update)
            normalised, squares = normalise_rows(update, squares)
            normuon = step(normuon, normalised)
            values |= {f"{key}.grad.{i}": gradient, f"{key}.weight.{i}": weight, f"{key}.normuon.{i}": normuon}
        values |= {f"{key}.momentum.{STEPS}": momentum, f"{key}.row_squares.{STEPS}": squares}
    safetensors.torch.save_file({key: value.contiguous() for key, value in values.items()}, path)
