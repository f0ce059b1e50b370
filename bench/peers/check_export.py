"""Opens a model folder that Hearth wrote with `transformers`, and compares greedy text and losses.

`FOLDER` alone checks that the folder opens, with no weight missing, left over or of a wrong shape.
`--hearth BIN --prompt TEXT` compares `hearth generate --temperature 0` with transformers' greedy text,
`--hearth BIN --text FILE` the loss that both measure on a text. Exit code 1 if anything differs.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

LOSS_TOLERANCE = 1e-5


def open_model(folder: Path) -> PreTrainedModel:
    """The model in float32; refuses missing, unexpected and misshapen weights."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = {key: sorted(map(str, value)) for key, value in info.items() if value}
    if problems:
        sys.exit(f"{folder} opens, but not whole: {problems}")
    return model.eval()


@torch.no_grad()
def greedy(model: PreTrainedModel, ids: Tensor, tokens: int) -> list[int]:
    """`tokens` greedy ids after `ids` `[T]`, the end-of-text token not stopping it."""
    context = ids[None]
    for _ in range(tokens):
        best = model(input_ids=context, use_cache=False).logits[0, -1].argmax()
        context = torch.cat([context, best.view(1, 1)], dim=1)
    return context[0, len(ids) :].tolist()


@torch.no_grad()
def compare_loss(model: PreTrainedModel, folder: Path, binary: str, path: Path) -> list[str]:
    """Differences between `hearth eval` and transformers on a text, in windows of the whole context."""
    command = [binary, "eval", str(folder), "--text", str(path), "--json"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    hearth = json.loads(output.splitlines()[-1])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor(tokenizer(path.read_text(encoding="utf-8")).input_ids)
    context = getattr(model.config, "n_positions", None) or model.config.max_position_embeddings
    nats, count = 0.0, 0
    for window in ids.split(context):
        if len(window) < 2:
            continue
        logits = model(input_ids=window[None], use_cache=False).logits[0, :-1]
        nats += F.cross_entropy(logits.double(), window[1:], reduction="sum").item()
        count += len(window) - 1
    difference = abs(hearth["loss"] - nats / count)
    print(f"loss over {count} tokens: {nats / count:.6f}, hearth {hearth['loss']:.6f}, difference {difference:.1e}")
    found = []
    if hearth["tokens"] != count:
        found.append(f"hearth scored {hearth['tokens']} tokens, expected {count}")
    # A NaN fails this comparison, as it should.
    if not difference <= LOSS_TOLERANCE:
        found.append(f"losses differ by {difference:.2e}, allowed {LOSS_TOLERANCE}")
    return found


def compare_text(model: PreTrainedModel, folder: Path, binary: str, prompt: str, tokens: int) -> list[str]:
    """Differences between `hearth generate` and transformers' greedy text."""
    command = [binary, "generate", str(folder), "--prompt", prompt, "--max-tokens", str(tokens), "--temperature", "0"]
    hearth = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode("utf-8").rstrip("\n")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, return_tensors="pt").input_ids[0]
    end = model.generation_config.eos_token_id
    ends = {end} if isinstance(end, int) else set(end or [])
    continuation = greedy(model, ids, tokens)
    stop = next((i for i, token in enumerate(continuation) if token in ends), tokens)
    reference = tokenizer.decode(continuation[:stop], clean_up_tokenization_spaces=False).rstrip("\n")
    print(f"greedy text equal: {hearth == reference}")
    return [] if hearth == reference else [f"greedy text {hearth!r}, expected {reference!r}"]


def main() -> None:
    """Opens the folder, runs the comparisons asked for, exits 1 on a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hearth", help="path of the hearth binary")
    parser.add_argument("--prompt", help="text to continue with both")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--text", type=Path, help="text to score with both")
    args = parser.parse_args()
    if (args.hearth is None) != (args.prompt is None and args.text is None):
        parser.error("--hearth goes with --prompt or --text")

    model = open_model(args.folder)
    print(f"{type(model).__name__} with {sum(p.numel() for p in model.parameters()):,} parameters opens whole")
    found = []
    if args.prompt is not None:
        found += compare_text(model, args.folder, args.hearth, args.prompt, args.max_tokens)
    if args.text is not None:
        found += compare_loss(model, args.folder, args.hearth, args.text)
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
