"""Opens a model folder that Hearth wrote with `transformers`, and compares logits and greedy text.

`FOLDER` alone checks that the folder opens, with no weight missing, left over or of a wrong shape.
`--logits FILE` compares with what Hearth computed: a safetensors file with `ids` (int32, `[T]`),
`logits` (float32, `[T, V]`, one row a position) and, if wanted, `greedy` (int32, `[N]`, the greedy
continuation of `ids`). `--prompt-ids` says which ids to expect there, or prints transformers' greedy
continuation of them. `--hearth BIN --prompt TEXT` compares `hearth generate --temperature 0` with
transformers' greedy text. Exit code 1 if anything differs.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

LOGIT_TOLERANCE = 1e-3


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
def compare_logits(model: PreTrainedModel, path: Path, prompt_ids: list[int] | None) -> list[str]:
    """Differences between Hearth's file and transformers."""
    given = safetensors.torch.load_file(path)
    ids = given["ids"].long()
    if prompt_ids is not None and ids.tolist() != prompt_ids:
        return [f"{path} holds ids {ids.tolist()}, expected {prompt_ids}"]
    expected = model(input_ids=ids[None], use_cache=False).logits[0]
    if given["logits"].shape != expected.shape:
        return [f"logits have shape {list(given['logits'].shape)}, expected {list(expected.shape)}"]
    difference = (given["logits"] - expected).abs().max().item()
    print(f"logits {list(expected.shape)}: greatest difference {difference:.2e}")
    # A NaN fails this comparison, as it should.
    found = [] if difference <= LOGIT_TOLERANCE else [f"logits differ by {difference:.2e}, allowed {LOGIT_TOLERANCE}"]
    if "greedy" in given:
        hearth = given["greedy"].tolist()
        reference = greedy(model, ids, len(hearth))
        print(f"greedy ids: {len(hearth)}, equal: {hearth == reference}")
        if hearth != reference:
            found.append(f"greedy ids {hearth}, expected {reference}")
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
    parser.add_argument("--logits", type=Path, help="safetensors file with Hearth's ids, logits and greedy ids")
    parser.add_argument("--prompt-ids", type=lambda text: [int(i) for i in text.split(",")], help="e.g. 5,17,3")
    parser.add_argument("--hearth", help="path of the hearth binary")
    parser.add_argument("--prompt", help="text to continue with both")
    parser.add_argument("--max-tokens", type=int, default=32)
    args = parser.parse_args()
    if (args.hearth is None) != (args.prompt is None):
        parser.error("--hearth and --prompt go together")

    model = open_model(args.folder)
    print(f"{type(model).__name__} with {sum(p.numel() for p in model.parameters()):,} parameters opens whole")
    found = []
    if args.logits:
        found += compare_logits(model, args.logits, args.prompt_ids)
    elif args.prompt_ids:
        print("greedy ids:", *greedy(model, torch.tensor(args.prompt_ids), args.max_tokens))
    if args.hearth:
        found += compare_text(model, args.folder, args.hearth, args.prompt, args.max_tokens)
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
