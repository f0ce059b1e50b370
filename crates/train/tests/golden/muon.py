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

The published write-up keeps M' = mu M' + G and U' = G + mu M'. Since M = (1 - mu) M' and
U = (1 - mu) U', and U is normalised, both give the same O. The published code runs the iteration in
bfloat16; here it is float32, so that the result is determined to about 1e-5.
"""

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

MOMENTUM, LR, DECAY = 0.95, 0.02, 0.1
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


def step(weight: Tensor, momentum: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The weight and the momentum buffer after one step."""
    rows, columns = weight.shape
    momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
    update = (1 - MOMENTUM) * gradient + MOMENTUM * momentum
    scale = max(1.0, rows / columns) ** 0.5
    return (1 - LR * DECAY) * weight - LR * scale * orthogonalise(update), momentum


def write(path: Path) -> None:
    """Three steps on each shape with fixed gradients."""
    generator = torch.Generator().manual_seed(91)
    values = {"hyper": torch.tensor([LR, MOMENTUM, DECAY])}
    for rows, columns in SHAPES:
        key = f"{rows}x{columns}"
        weight = torch.randn(rows, columns, generator=generator)
        momentum = torch.zeros(rows, columns)
        values[f"{key}.weight.0"] = weight
        for i in range(1, STEPS + 1):
            gradient = 0.1 * torch.randn(rows, columns, generator=generator)
            weight, momentum = step(weight, momentum, gradient)
            values |= {f"{key}.grad.{i}": gradient, f"{key}.weight.{i}": weight}
        values[f"{key}.momentum.{STEPS}"] = momentum
    safetensors.torch.save_file({key: value.contiguous() for key, value in values.items()}, path)
