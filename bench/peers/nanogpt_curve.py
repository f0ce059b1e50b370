"""nanoGPT's recipe with AdamW in PyTorch: the curve that Hearth's AdamW should follow, and its others should beat.

On the characters of a text file, nanoGPT's CPU setting: 4 layers, 4 heads, width 128, block 64, batch 12; the last
tenth of the characters is held out. With `--run DIR`, on the token shards of a Hearth run instead, 6 layers, 6 heads,
width 384, block 256, batch 8, for `--minutes`. Either way: no biases, no dropout, AdamW betas 0.9/0.99, decay 0.1 on
matrices, clip 1.0; 100 steps of warm-up to lr 1e-3, then a cosine down to 1e-4 at the last step; held-out text in
non-overlapping windows of the block, every token after the first of a window once. Prints one JSON object a line;
`seconds` are those of the steps.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from gpt import Gpt, Shape, adamw
from torch import Tensor

WARMUP = 100
LR, MIN_LR = 1e-3, 1e-4
EVALUATION_TOKENS = 4096
# Looks and the first slow steps take a part of the minutes.
SHARE_OF_STEPS = 0.97


@dataclass(frozen=True)
class Data:
    """Token ids, and how many there are."""

    training: Tensor
    held_out: Tensor
    vocab: int

    @staticmethod
    def of_characters(path: Path) -> "Data":
        """The characters of a file, the last tenth held out."""
        text = path.read_text(encoding="utf-8")
        index = {character: i for i, character in enumerate(sorted(set(text)))}
        ids = torch.tensor([index[character] for character in text])
        return Data(ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :], len(index))

    @staticmethod
    def of_run(folder: Path) -> "Data":
        """The shards in the folder of a Hearth run."""
        vocab = json.loads((folder / "config.json").read_text())["vocab_size"]
        width = "<u2" if vocab <= 65_536 else "<u4"
        shards = [np.fromfile(folder / "data" / f"{name}.bin", dtype=width) for name in ("training", "heldout")]
        training, held_out = (torch.from_numpy(shard.astype(np.int64)) for shard in shards)
        return Data(training, held_out, vocab)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine from LR to MIN_LR."""
    if step < WARMUP:
        return LR * (step + 1) / (WARMUP + 1)
    progress = (step - WARMUP) / (steps - WARMUP)
    return MIN_LR + 0.5 * (LR - MIN_LR) * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def validation_loss(model: Gpt, held_out: Tensor, block: int) -> float:
    """Mean nats a token over all the windows, the last short one included."""
    full = len(held_out) // block * block
    batches = list(held_out[:full].view(-1, block).split(EVALUATION_TOKENS // block))
    if len(held_out) - full >= 2:
        batches.append(held_out[full:][None])
    total, count = 0.0, 0
    for windows in batches:
        logits, targets = model.logits(windows[:, :-1]), windows[:, 1:]
        total += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
        count += targets.numel()
    return total / count


class Trainer:
    """A model in training, on one data set."""

    def __init__(self, data: Data, shape: Shape, batch: int) -> None:
        self.data, self.block, self.batch = data, shape.context, batch
        self.model = Gpt(shape, scaled_projections=True)
        self.optimizer = adamw(self.model, lr=LR, betas=(0.9, 0.99), decay=0.1)

    def step(self, lr: float) -> tuple[float, float]:
        """One step; its loss and seconds."""
        start = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        training = self.data.training
        offsets = torch.randint(len(training) - self.block, (self.batch,))
        windows = torch.stack([training[offset : offset + self.block + 1] for offset in offsets])
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model(windows[:, :-1], windows[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item(), time.perf_counter() - start


def main() -> None:
    """Trains, and prints losses at step 0, every `--every` steps and at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path, nargs="?", help="a text, for characters")
    parser.add_argument("--run", type=Path, help="a Hearth run's folder, for its token shards")
    parser.add_argument("--minutes", type=float, help="as many steps as fit, by the time of a few")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.run:
        data, batch = Data.of_run(args.run), 8
        shape = Shape(n_layers=6, n_heads=6, width=384, context=256, vocab=data.vocab)
    else:
        data, batch = Data.of_characters(args.text), 12
        shape = Shape(n_layers=4, n_heads=4, width=128, context=64, vocab=data.vocab)
    steps = args.steps
    if args.minutes:
        trial = Trainer(data, shape, batch)
        times = [trial.step(0.0)[1] for _ in range(8)][2:]
        steps = int(60 * args.minutes * SHARE_OF_STEPS / (sum(times) / len(times)))
        torch.manual_seed(args.seed)
    trainer = Trainer(data, shape, batch)
    seconds, losses = 0.0, []
    for step in range(steps + 1):
        if step % args.every == 0 or step == steps:
            train_loss = sum(losses) / len(losses) if losses else None
            val_loss = validation_loss(trainer.model, data.held_out, shape.context)
            record = {"step": step, "train_loss": train_loss, "val_loss": val_loss, "seconds": round(seconds, 1)}
            print(json.dumps(record), flush=True)
            losses = []
        if step < steps:
            loss, elapsed = trainer.step(learning_rate(step, steps))
            losses.append(loss)
            seconds += elapsed


if __name__ == "__main__":
    main()
