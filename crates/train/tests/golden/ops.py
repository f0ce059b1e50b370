"""Single operations, forward and backward: `x`, `y`, the incoming gradient `dy`, and what it becomes."""

from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm, apply_rotary_pos_emb

Values = dict[str, Tensor]


def randn(*shape: int, seed: int) -> Tensor:
    """Standard normal values that depend on `seed` alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def activation(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Values:
    """Values and derivatives on the grid, worked out in float64 and rounded once."""
    leaf = x.double().requires_grad_()
    y = function(leaf)
    (derivative,) = torch.autograd.grad(y.sum(), leaf)
    return {f"{name}.y": y.detach().float(), f"{name}.dydx": derivative.float()}


def activations() -> Values:
    """Exact GELU x Phi(x), tanh GELU, SiLU x sigmoid(x) on -10, -9.9, …, 10."""
    x = (torch.arange(-100, 101) / 10).float()
    return (
        {"activation.x": x}
        | activation("gelu_exact", F.gelu, x)
        | activation("gelu_tanh", lambda v: F.gelu(v, approximate="tanh"), x)
        | activation("silu", F.silu, x)
    )


def norms() -> Values:
    """LayerNorm (eps 1e-5) and RMSNorm (eps 1e-6) over the last of `[5, 12]`; one row is nearly constant."""
    x, dy = 2 * randn(5, 12, seed=1) + 0.5, randn(5, 12, seed=2)
    x[3] = 0.7 + 1e-3 * randn(12, seed=3)
    gain, bias = 1 + 0.1 * randn(12, seed=4), 0.1 * randn(12, seed=5)
    values = {"norm.x": x, "norm.weight": gain, "norm.bias": bias, "norm.dy": dy}
    leaves = [t.clone().requires_grad_() for t in (x, gain, bias)]
    y = F.layer_norm(leaves[0], (12,), leaves[1], leaves[2], eps=1e-5)
    dx, dweight, dbias = torch.autograd.grad(y, leaves, dy)
    values |= {
        "layer_norm.y": y.detach(),
        "layer_norm.dx": dx,
        "layer_norm.dweight": dweight,
        "layer_norm.dbias": dbias,
    }
    rms = Qwen3RMSNorm(12, eps=1e-6)
    rms.weight.data = gain.clone()
    leaf = x.clone().requires_grad_()
    y = rms(leaf)
    dx, dweight = torch.autograd.grad(y, [leaf, rms.weight], dy)
    return values | {"rms_norm.y": y.detach(), "rms_norm.dx": dx, "rms_norm.dweight": dweight}


def rope() -> Values:
    """RoPE on `[H=2, T=8, D=16]`, theta 10000, pairs (i, i + D/2), positions 0 to 7."""
    heads, positions, head_dim = 2, 8, 16
    frequencies = 10000.0 ** -(torch.arange(0, head_dim, 2) / head_dim)
    angles = torch.arange(positions)[:, None] * frequencies
    cos, sin = (torch.cat([f(angles), f(angles)], dim=-1)[None] for f in (torch.cos, torch.sin))
    x = randn(1, heads, positions, head_dim, seed=6).requires_grad_()
    dy = randn(1, heads, positions, head_dim, seed=7)
    y, _ = apply_rotary_pos_emb(x, x, cos, sin)
    (dx,) = torch.autograd.grad(y, x, dy)
    return {"rope.x": x.detach()[0], "rope.y": y.detach()[0], "rope.dy": dy[0], "rope.dx": dx[0]}


def cross_entropy() -> Values:
    """Linear + cross-entropy: hidden `[6, 8]` times head `[11, 8]` transposed; targets 2 and 5 ignored.

    Means are over the four targets that count. Label smoothing 0.1 mixes the one-hot target with the
    uniform distribution over all 11 classes; z-loss adds 1e-4 times the mean of logsumexp(logits)^2.
    """
    hidden = (2 * randn(6, 8, seed=8)).requires_grad_()
    head = randn(11, 8, seed=9).requires_grad_()
    targets = torch.tensor([3, 10, -1, 0, 7, -1])
    values = {"ce.hidden": hidden.detach(), "ce.head": head.detach(), "ce.targets": targets.int()}
    for name, smoothing, z_weight in [("plain", 0.0, 0.0), ("smooth", 0.1, 0.0), ("z", 0.0, 1e-4), ("both", 0.1, 1e-4)]:
        logits = hidden @ head.T
        loss = F.cross_entropy(logits, targets, ignore_index=-1, label_smoothing=smoothing)
        loss = loss + z_weight * logits.logsumexp(dim=-1)[targets >= 0].square().mean()
        gradients = torch.autograd.grad(loss, [logits, hidden, head])
        values |= {f"ce.{name}.loss": loss.detach()}
        values |= {f"ce.{name}.d{what}": g for what, g in zip(("logits", "hidden", "head"), gradients, strict=True)}
    return values | {"ce.logits": logits.detach()}


def write(path: Path) -> None:
    """Writes every operation's values into one file."""
    values = activations() | norms() | rope() | cross_entropy()
    safetensors.torch.save_file({key: value.detach().contiguous() for key, value in values.items()}, path)
