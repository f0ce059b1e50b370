"""Tiny random encoders and decoders with the heads of tasks: logits, losses and gradients; `heads/TASK/golden.safetensors`.

Three sequences of 9, 5 and 7 tokens, the last with a second text; padding is left out of what is stored.
"""

from pathlib import Path

import safetensors.torch
import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    EuroBertForSequenceClassification,
    EuroBertForTokenClassification,
    Gemma3TextForSequenceClassification,
    GPT2ForTokenClassification,
    LlamaForSequenceClassification,
    Qwen2ForTokenClassification,
)

import models
from encoder import randomize
from masked import eurobert_config

LENGTHS, VOCAB, WIDTH = (9, 5, 7), 31, 16

TASKS = {
    "single": (BertForSequenceClassification, {"num_labels": 3, "problem_type": "single_label_classification"}),
    "multi": (BertForSequenceClassification, {"num_labels": 4, "problem_type": "multi_label_classification"}),
    "regression": (BertForSequenceClassification, {"num_labels": 1, "problem_type": "regression"}),
    "tokens": (BertForTokenClassification, {"num_labels": 5}),
    "span": (BertForQuestionAnswering, {}),
    "eurobert-single": (
        EuroBertForSequenceClassification,
        {"num_labels": 3, "problem_type": "single_label_classification"},
    ),
    "eurobert-tokens": (EuroBertForTokenClassification, {"num_labels": 5}),
    "llama-single": (
        LlamaForSequenceClassification,
        {"num_labels": 3, "problem_type": "single_label_classification"},
    ),
    "gemma3-single": (
        Gemma3TextForSequenceClassification,
        {"num_labels": 3, "problem_type": "single_label_classification"},
    ),
    "qwen2-tokens": (Qwen2ForTokenClassification, {"num_labels": 5}),
    "gpt2-tokens": (GPT2ForTokenClassification, {"num_labels": 5, "n_layer": 1}),
}
# What fills the shorter sequences of a decoder: its class looks for the last token that is another one.
PADDING = 0


def build(kind: type, settings: dict) -> torch.nn.Module:
    """One block and a head with random weights; two blocks of a decoder, which may have two kinds."""
    for name, builder in models.BUILDERS.items():
        if kind.__name__.lower().startswith(name):
            config = builder().config
            config.update({"vocab_size": VOCAB, "pad_token_id": PADDING, **settings})
            return randomize(kind(config), 2468)
    if kind.__name__.startswith("EuroBert"):
        return randomize(kind(eurobert_config(vocab_size=VOCAB, num_hidden_layers=1, **settings)), 2468)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
        **settings,
    )
    return randomize(kind(config), 2468)


def write(name: str, folder: Path) -> None:
    """The model folder of a task and its numbers."""
    kind, settings = TASKS[name]
    model = build(kind, settings)
    model.save_pretrained(folder)
    generator = torch.Generator().manual_seed(1357)
    batch, longest = len(LENGTHS), max(LENGTHS)
    ids = torch.randint(VOCAB, (batch, longest), generator=generator)
    mask, types = torch.zeros(batch, longest, dtype=torch.long), torch.zeros(batch, longest, dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        mask[row, :length] = 1
    types[2, 4:] = 1
    real = mask.bool()
    is_decoder = model.config.model_type in ("llama", "gemma3_text", "qwen2", "gpt2")
    if is_decoder:
        ids = ids.clamp(min=PADDING + 1).masked_fill(~real, PADDING)
    values = {"input_ids": ids[real].int(), "token_type_ids": types[real].int()}
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model.config.model_type == "bert":
        inputs["token_type_ids"] = types
    name = name.split("-")[-1]
    if name == "span":
        starts, ends = torch.tensor([2, 1, 5]), torch.tensor([6, 1, 6])
        output = model(**inputs, start_positions=starts, end_positions=ends)
        # Padding has logits too; the loss that is compared leaves it out, as a sequence alone would.
        hidden = [torch.stack(pair, -1)[real] for pair in [(output.start_logits, output.end_logits)]][0]
        loss = torch.zeros(())
        for logits, answers in [(output.start_logits, starts), (output.end_logits, ends)]:
            masked = logits.masked_fill(~real, -torch.inf)
            loss = loss + torch.nn.functional.cross_entropy(masked, answers) / 2
        values |= {"logits": hidden, "starts": starts.int(), "ends": ends.int()}
    else:
        targets = {
            "single": torch.tensor([2, 0, 1]),
            "multi": torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]]),
            "regression": torch.tensor([0.5, -1.25, 2.0]),
            "tokens": torch.randint(5, (batch, longest), generator=generator).masked_fill(~real, -100),
        }[name]
        if name == "tokens":
            targets[0, 3] = -100
        output = model(**inputs, labels=targets)
        loss = output.loss
        values["logits"] = output.logits[real] if name == "tokens" else output.logits
        flat = targets[real] if name == "tokens" else targets
        flat = flat.masked_fill(flat == -100, -1) if name == "tokens" else flat
        values["targets"] = flat if flat.is_floating_point() else flat.int()
    loss.backward()
    values["loss"] = loss.reshape(1)
    # An encoder that is asked about tokens or spans has no pooler.
    values |= {f"grad.{n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    stored = {key: value.detach().contiguous() for key, value in values.items()}
    safetensors.torch.save_file(stored, folder / "golden.safetensors")
