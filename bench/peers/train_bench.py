"""The PyTorch twin of `hearth bench train`: one fixed random batch, N real steps, timed one by one.

A step is forward, backward, clipping at 1.0 and AdamW (lr 1e-3, betas 0.9/0.95, eps 1e-8, decay 0.1 on
matrices including embeddings), in float32. Loss i is the loss before update i.
"""

import argparse
import json
import resource
import statistics
import sys
import time

import torch
from gpt import Gpt, Shape, adamw

# Name: shape and batch [B, T]. gpt2-124m has GPT-2's 1,024 learned positions and uses the first 64.
PRESETS = {
    "nanogpt-cpu": (Shape(n_layers=4, n_heads=4, width=128, context=64, vocab=65), (12, 64)),
    "small": (Shape(n_layers=6, n_heads=6, width=384, context=256, vocab=65), (8, 256)),
    "small-8k": (Shape(n_layers=6, n_heads=6, width=384, context=256, vocab=8192), (8, 256)),
    "gpt2-124m": (Shape(n_layers=12, n_heads=12, width=768, context=1024, vocab=50304), (4, 64)),
}


def train(preset: str, steps: int, compiled: bool) -> dict[str, object]:
    """Runs the steps; the keys that `hearth bench train --json` prints."""
    shape, (batch, length) = PRESETS[preset]
    model = Gpt(shape)
    forward = torch.compile(model) if compiled else model
    optimizer = adamw(model, lr=1e-3, betas=(0.9, 0.95), decay=0.1)
    ids = torch.randint(shape.vocab, (batch, length))
    targets = torch.randint(shape.vocab, (batch, length))
    losses, step_ms = [], []
    for step in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = forward(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        step_ms.append(1e3 * (time.perf_counter() - start))
        print(f"step {step} loss {losses[-1]:.4f} {step_ms[-1]:.1f} ms", file=sys.stderr)
    median = statistics.median(step_ms)
    return {
        "preset": preset,
        "losses": losses,
        "step_ms": step_ms,
        "step_ms_median": median,
        "tokens_per_second": 1e3 * batch * length / median,
        "peak_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "torch": torch.__version__,
    }


def main() -> None:
    """Parses the arguments and prints a summary, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    result = train(args.preset, args.steps, args.compile)
    if args.json:
        print(json.dumps(result))
    else:
        print(f"{result['step_ms_median']:.1f} ms/step, {result['tokens_per_second']:.0f} tokens/s")


if __name__ == "__main__":
    main()
