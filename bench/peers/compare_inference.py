"""Hearth against llama.cpp on GGUF files, in turn: `compare_inference.py --hearth BINARY --python VENV_PYTHON MODEL…`.

For each file: prompt and generation speed (peer, Hearth, peer, Hearth …), and with `--text FILE` (several times)
perplexity by llama.cpp's rule. Writes `bench/results/DATE-inference-COMMIT.json` and rows of
`bench/results/inference.md`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from machine import commit, cpu_model

PEER = Path(__file__).with_name("llama_cpp_bench.py")
RESULTS = Path(__file__).parents[1] / "results"
HEADER = (
    "| date | file | what | rounds | llama.cpp | Hearth | Hearth ÷ llama.cpp (least–greatest) | machine | commit |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def run(command: list[str]) -> dict:
    """The JSON object on the last line that a command prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} exited with {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Measures each file and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--hearth", required=True)
    parser.add_argument("--python", default=sys.executable, help="a Python that has llama_cpp")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=1, help="sequences that generate together, 128 tokens each")
    parser.add_argument("--text", type=Path, action="append", default=[])
    args = parser.parse_args()
    at = commit()
    date, end = datetime.now(UTC).date().isoformat(), f"{cpu_model()}, {os.cpu_count()} cores | {at}"
    rows, raw = "", {}
    what = [("prompt 512", "prompt_tokens_per_second"), ("generate 128", "generate_tokens_per_second")]
    flags = ["-p", "512", "-n", "128"]
    if args.parallel > 1:
        what = [(f"generate {args.parallel} × 128 after 128", "generate_tokens_per_second")]
        flags = ["-p", "128", "-n", "128", "--parallel", str(args.parallel)]
    for model in args.models:
        peers, ours = [], []
        for _ in range(args.rounds):
            peers.append(run([args.python, str(PEER), "bench", str(model), *flags]))
            command = [args.hearth, "bench", "infer", str(model), *flags, "--threads", "2", "--json", "--quiet"]
            ours.append(run(command))
        raw[model.name] = {"peer": peers, "hearth": ours}
        for name, key in what:
            pairs = [(peer[key], hearth[key]) for peer, hearth in zip(peers, ours, strict=True)]
            ratios = [hearth / peer for peer, hearth in pairs]
            middle = [f"{statistics.median(values):.0f} tok/s" for values in zip(*pairs, strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            cells = [date, model.name, name, str(len(pairs)), *middle, ratio, end]
            rows += f"| {' | '.join(cells)} |\n"
        for text in args.text:
            peer = run([args.python, str(PEER), "perplexity", str(model), str(text)])
            command = [args.hearth, "eval", str(model), "--text", str(text), "--ctx", "512", "--half"]
            hearth = run([*command, "--json", "--quiet"])
            if peer["tokens"] != hearth["tokens"]:
                sys.exit(f"{model.name}, {text.name}: {peer['tokens']} tokens scored, and {hearth['tokens']}")
            raw[model.name][text.name] = {"peer": peer["perplexity"], "hearth": hearth["perplexity"]}
            figures = [f"{side['perplexity']:.3f}" for side in (peer, hearth)]
            ratio = f"{hearth['perplexity'] / peer['perplexity']:.4f}"
            cells = [date, model.name, f"perplexity, {text.name}", "1", *figures, ratio, end]
            rows += f"| {' | '.join(cells)} |\n"
        print(rows.splitlines()[-1], flush=True)
    suffix = f"-{args.parallel}-at-once" if args.parallel > 1 else ""
    (RESULTS / f"{date}-inference{suffix}-{at}.json").write_text(json.dumps(raw, indent=1))
    table = RESULTS / "inference.md"
    table.write_text((table.read_text() if table.exists() else HEADER) + rows)


if __name__ == "__main__":
    main()
