"""Tiny random encoders for masked-language modelling: logits, loss, gradients; `masked/NAME/golden.safetensors`.

Three sequences of 9, 5 and 7 tokens; padding is left out of what is stored. `rows` are the places of the tokens that
are to be found, counted without padding, and `targets` what they are; `logits` are those of these rows alone.
"""

from pathlib import Path

import safetensors.torch
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    EuroBertConfig,
    EuroBertForMaskedLM,
)

from encoder import randomize

LENGTHS, VOCAB = (9, 5, 7), 61
PLACES = ((1, 2, 7), (3,), (0, 6))
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "attn_implementation": "eager",
}


def eurobert_config(**settings) -> EuroBertConfig:
    """Grouped queries, and angles that differ from the usual ones."""
    rope = {"rope_type": "default", "rope_theta": 250.0}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "mask_token_id": 4}
    return EuroBertConfig(**{**SIZES, "num_key_value_heads": 2, "rope_parameters": rope, **ids, **settings})


def bert() -> torch.nn.Module:
    """The head has a layer, a norm and a bias, and shares the embedding."""
    return BertForMaskedLM(BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SIZES))


def eurobert() -> torch.nn.Module:
    """The head is a matrix of its own."""
    return EuroBertForMaskedLM(eurobert_config(tie_word_embeddings=False))


def eurobert_tied() -> torch.nn.Module:
    """The head is the embedding."""
    return EuroBertForMaskedLM(eurobert_config(tie_word_embeddings=True, num_hidden_layers=1))


BUILDERS = {"bert": bert, "eurobert": eurobert, "eurobert-tied": eurobert_tied}


def write(name: str, folder: Path) -> None:
    """The model folder and its numbers."""
    model = randomize(BUILDERS[name](), 1928)
    model.save_pretrained(folder)
    generator = torch.Generator().manual_seed(5566)
    batch, longest = len(LENGTHS), max(LENGTHS)
    ids = torch.randint(VOCAB, (batch, longest), generator=generator)
    mask = torch.zeros(batch, longest, dtype=torch.long)
    chosen = torch.zeros(batch, longest, dtype=torch.bool)
    for row, (length, places) in enumerate(zip(LENGTHS, PLACES, strict=True)):
        mask[row, :length] = 1
        chosen[row, list(places)] = True
    labels = torch.randint(VOCAB, (batch, longest), generator=generator).masked_fill(~chosen, -100)
    output = model(input_ids=ids, attention_mask=mask, labels=labels)
    output.loss.backward()
    real = mask.bool()
    values = {
        "input_ids": ids[real].int(),
        "rows": chosen[real].nonzero().flatten().int(),
        "targets": labels[chosen].int(),
        "logits": output.logits[chosen],
        "loss": output.loss.reshape(1),
    }
    values |= {f"grad.{n}": p.grad.clone() for n, p in model.named_parameters()}
    stored = {key: value.detach().contiguous() for key, value in values.items()}
    safetensors.torch.save_file(stored, folder / "golden.safetensors")
