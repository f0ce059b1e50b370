"""Recurrent layers in both directions over three sequences: `recurrent.safetensors`."""

from pathlib import Path

import safetensors.torch
import torch

LENGTHS, INPUTS, STATE = (4, 7, 2), 5, 6


def write(path: Path) -> None:
    """x, the weights, y, the incoming gradient dy, and what it becomes."""
    generator = torch.Generator().manual_seed(97)
    randn = lambda *shape: torch.randn(*shape, generator=generator)
    x = randn(sum(LENGTHS), INPUTS)
    values = {"x": x}
    for name, kind in [("rnn", torch.nn.RNN), ("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU)]:
        layer = kind(INPUTS, STATE, bidirectional=True)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(0.5 * randn(*parameter.shape))
        leaf = x.clone().requires_grad_()
        y = torch.cat([layer(sequence)[0] for sequence in leaf.split(LENGTHS)])
        dy = randn(*y.shape)
        y.backward(dy)
        values |= {f"{name}.y": y.detach(), f"{name}.dy": dy, f"{name}.dx": leaf.grad}
        values |= {f"{name}.{key}": parameter.detach() for key, parameter in layer.named_parameters()}
        values |= {f"{name}.d{key}": parameter.grad for key, parameter in layer.named_parameters()}
    safetensors.torch.save_file({key: value.contiguous() for key, value in values.items()}, path)
