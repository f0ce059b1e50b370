"""nanoGPT's CPU setting on the characters of a text file: the curve that Hearth's AdamW should follow.

4 layers, 4 heads, width 128, block 64, batch 12, no biases, no dropout; AdamW betas 0.9/0.99, decay 0.1
on matrices, clip 1.0; 100 steps of warm-up to lr 1e-3, then a cosine down to 1e-4 at the last step. The
last tenth of the characters is held out and scored in non-overlapping windows of 64, every character
after the first of a window once. Prints one JSON object a line.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from gpt import Gpt, Shape, adamw
from torch import Tensor

BLOCK, BATCH, WARMUP = 64, 12, 100
LR, MIN_LR = 1e-3, 1e-4
EVALUATION_BATCH = 64


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine from LR to MIN_LR."""
    if step < WARMUP:
        return LR * (step + 1) / (WARMUP + 1)
    progress = (step - WARMUP) / (steps - WARMUP)
    return MIN_LR + 0.5 * (LR - MIN_LR) * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def validation_loss(model: Gpt, held_out: Tensor) -> float:
    """Mean nats a character over all the windows, the last short one included."""
    full = len(held_out) // BLOCK * BLOCK
    batches = list(held_out[:full].view(-1, BLOCK).split(EVALUATION_BATCH))
    if len(held_out) - full >= 2:
        batches.append(held_out[full:][None])
    total, count = 0.0, 0
    for windows in batches:
        logits, targets = model.logits(windows[:, :-1]), windows[:, 1:]
        total += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
        count += targets.numel()
    return total / count


def main() -> None:
    """Trains, and prints losses at step 0, every `--every` steps and at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    text = args.text.read_text(encoding="utf-8")
    index = {character: i for i, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([index[character] for character in text])
    training, held_out = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]

    model = Gpt(Shape(n_layers=4, n_heads=4, width=128, context=BLOCK, vocab=len(index)), scaled_projections=True)
    optimizer = adamw(model, lr=LR, betas=(0.9, 0.99), decay=0.1)
    seconds, losses = 0.0, []
    for step in range(args.steps + 1):
        if step % args.every == 0 or step == args.steps:
            train_loss = sum(losses) / len(losses) if losses else None
            val_loss = validation_loss(model, held_out)
            record = {"step": step, "train_loss": train_loss, "val_loss": val_loss, "seconds": round(seconds, 1)}
            print(json.dumps(record), flush=True)
            losses = []
        if step == args.steps:
            break
        start = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        offsets = torch.randint(len(training) - BLOCK, (BATCH,))
        windows = torch.stack([training[offset : offset + BLOCK + 1] for offset in offsets])
        optimizer.zero_grad(set_to_none=True)
        loss = model(windows[:, :-1], windows[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        seconds += time.perf_counter() - start


if __name__ == "__main__":
    main()
