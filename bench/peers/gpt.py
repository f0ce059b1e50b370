"""GPT-2's shape in PyTorch: pre-norm blocks, exact GELU, tied head, no biases, no dropout.

Letters: B sequences, T positions, C width, H heads, V vocabulary entries.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """A model's size; `context` is the number of learned positions."""

    n_layers: int
    n_heads: int
    width: int
    context: int
    vocab: int


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_heads = shape.n_heads
        self.norm_attention = nn.LayerNorm(shape.width, bias=False)
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.norm_mlp = nn.LayerNorm(shape.width, bias=False)
        self.up = nn.Linear(shape.width, 4 * shape.width, bias=False)
        self.down = nn.Linear(4 * shape.width, shape.width, bias=False)

    def attention(self, x: Tensor) -> Tensor:
        """Causal self-attention, `[B, T, C]` to `[B, T, C]`."""
        q, k, v = (t.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x))))


class Gpt(nn.Module):
    """Token ids `[B, T]` and targets `[B, T]` to the mean cross-entropy.

    Weights are N(0, 0.02) and norm gains one; with `scaled_projections` the two matrices of a block that
    write into the residual stream are N(0, 0.02 / sqrt(2 n_layers)), as GPT-2 and nanoGPT have it.
    """

    def __init__(self, shape: Shape, scaled_projections: bool = False) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocab, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.norm = nn.LayerNorm(shape.width, bias=False)
        projection_std = 0.02 * (2 * shape.n_layers) ** -0.5 if scaled_projections else 0.02
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=projection_std if residual else 0.02)

    def logits(self, ids: Tensor) -> Tensor:
        """`[B, T]` to `[B, T, V]`."""
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(ids).flatten(0, 1), targets.flatten())


def adamw(model: Gpt, lr: float, betas: tuple[float, float], decay: float) -> torch.optim.AdamW:
    """AdamW, fused; decay on all matrices, embeddings included, and not on norm gains."""
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=1e-8, fused=True)
