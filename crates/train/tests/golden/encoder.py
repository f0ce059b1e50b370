"""A tiny random BERT: hidden states, the pooler's output, and gradients; `bert/golden.safetensors`.

Two sequences of 24 and 13 tokens, the second padded; the tokens of the first from the tenth on, and of the second
from the seventh on, are of type 1. Padding is left out of what is stored.
"""

from pathlib import Path

import safetensors.torch
import torch
from transformers import BertConfig, BertModel

LENGTHS, VOCAB, WIDTH = (24, 13), 97, 48
SECOND_TEXTS = (10, 7)


def randomize(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Matrices N(0, 0.2), biases N(0, 0.1), norm gains N(1, 0.1), so that a missing term shows."""
    model = model.float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() >= 2:
                parameter.copy_(0.2 * noise)
            else:
                parameter.copy_(0.1 * noise + (0.0 if name.endswith("bias") else 1.0))
    return model


def build() -> BertModel:
    """Two blocks with random weights."""
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=80,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    return randomize(BertModel(config), 4321)


def write(folder: Path) -> None:
    """The model folder and its numbers; `loss` is the sum of `probe * hidden` and `pooled_probe * pooled`."""
    model = build()
    model.save_pretrained(folder)
    generator = torch.Generator().manual_seed(8765)
    batch, longest = len(LENGTHS), max(LENGTHS)
    ids = torch.randint(VOCAB, (batch, longest), generator=generator)
    mask, types = torch.zeros(batch, longest, dtype=torch.long), torch.zeros(batch, longest, dtype=torch.long)
    for row, (length, second) in enumerate(zip(LENGTHS, SECOND_TEXTS, strict=True)):
        mask[row, :length] = 1
        types[row, second:] = 1
    real = mask.bool()
    probe = torch.randn(sum(LENGTHS), WIDTH, generator=generator)
    pooled_probe = torch.randn(batch, WIDTH, generator=generator)
    with torch.no_grad():
        first = model(input_ids=ids, attention_mask=mask).last_hidden_state[real]
    output = model(input_ids=ids, attention_mask=mask, token_type_ids=types)
    hidden, pooled = output.last_hidden_state[real], output.pooler_output
    loss = (probe * hidden).sum() + (pooled_probe * pooled).sum()
    loss.backward()
    values = {
        "input_ids": ids[real].int(),
        "token_type_ids": types[real].int(),
        "first_type.hidden": first,
        "hidden": hidden.detach(),
        "pooled": pooled.detach(),
        "probe": probe,
        "pooled_probe": pooled_probe,
    }
    values |= {f"grad.{name}": p.grad.clone() for name, p in model.named_parameters()}
    safetensors.torch.save_file({k: v.contiguous() for k, v in values.items()}, folder / "golden.safetensors")
