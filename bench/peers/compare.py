"""Hearth against PyTorch, one training preset, in alternating child processes.

`compare.py --preset small --hearth target/release/hearth` runs the peer, Hearth, the peer, Hearth …,
prints medians, their spread and the ratio pair by pair, and writes `bench/results/DATE-train-PRESET-COMMIT.json`
and a row of `bench/results/train.md`. Measure on a quiet machine: a second busy process makes PyTorch's
figures collapse. Exit code 1 if the losses don't agree: the two then don't do the same work.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from machine import commit, cpu_model, output
from train_bench import PRESETS

PEER = Path(__file__).with_name("train_bench.py")
RESULTS = Path(__file__).parents[1] / "results"
# Enough for a steady median, few enough that the last loss still varies little from seed to seed.
STEPS = {"nanogpt-cpu": 20, "small": 8, "small-8k": 7, "gpt2-124m": 6}
FIRST_LOSS_TOLERANCE = LAST_LOSS_TOLERANCE = 0.02
HEADER = (
    "| date | preset | peer | steps × rounds | peer ms/step | Hearth ms/step | Hearth ÷ peer, speed (least–greatest) "
    "| peer RSS MB | Hearth RSS MB | machine | Hearth | commit |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
)
Run = dict[str, object]


def measure(command: list[str]) -> Run:
    """Runs a benchmark; its JSON is the last line of stdout, its progress is dropped."""
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} exited with {process.returncode}:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def disagreements(vocab: int, peer: list[Run], hearth: list[Run]) -> list[str]:
    """What is wrong with the losses: the first should be ln V, the last alike in the median over rounds."""
    found = []
    for name, runs in (("peer", peer), ("hearth", hearth)):
        first = statistics.median(run["losses"][0] for run in runs)
        if abs(first / math.log(vocab) - 1) > FIRST_LOSS_TOLERANCE:
            found.append(f"{name}: first loss {first:.4f}, expected ln {vocab} = {math.log(vocab):.4f} within 2%")
    last_peer, last_hearth = (statistics.median(run["losses"][-1] for run in runs) for runs in (peer, hearth))
    if abs(last_hearth / last_peer - 1) > LAST_LOSS_TOLERANCE:
        found.append(f"last loss: peer {last_peer:.4f}, hearth {last_hearth:.4f}, expected within 2%")
    return found


def spread(values: list[float]) -> str:
    """Median, least and greatest."""
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def table_row(result: dict) -> str:
    """The result as a row under HEADER."""
    peer, hearth = result["peer"], result["hearth"]
    times = [spread([run["step_ms_median"] for run in runs]) for runs in (peer, hearth)]
    memory = [f"{statistics.median(run['peak_rss_bytes'] for run in runs) / 1e6:.0f}" for runs in (peer, hearth)]
    ratios = result["ratios"]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    machine = f"{result['machine']['cpu']}, {result['machine']['cores']} cores"
    versions = result["versions"]
    cells = [
        result["date"],
        result["preset"],
        f"PyTorch {versions['torch']}{' compiled' if result['compile'] else ' eager'}",
        f"{result['steps']} × {len(ratios)}",
        *times,
        ratio,
        *memory,
        machine,
        versions["hearth"],
        result["commit"],
    ]
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Alternates the two, then reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--hearth", required=True, help="path of the hearth binary")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, help="default: by preset, 6 to 20")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="the peer through torch.compile")
    args = parser.parse_args()
    steps = args.steps or STEPS[args.preset]
    load = os.getloadavg()[0]

    shared = ["--preset", args.preset, "--steps", str(steps), "--threads", str(args.threads), "--json"]
    peer_command = [sys.executable, str(PEER), *shared, *(["--compile"] if args.compile else [])]
    hearth_command = [args.hearth, "bench", "train", *shared]
    peer: list[Run] = []
    hearth: list[Run] = []
    for round_index in range(args.rounds):
        seed = ["--seed", str(round_index)]
        peer.append(measure(peer_command + seed))
        hearth.append(measure(hearth_command + seed))
        a, b = peer[-1]["step_ms_median"], hearth[-1]["step_ms_median"]
        print(f"round {round_index}: peer {a:.1f} ms, hearth {b:.1f} ms, ratio {a / b:.2f}", file=sys.stderr)

    now = datetime.now(UTC)
    result = {
        "date": now.date().isoformat(),
        "time": now.isoformat(timespec="seconds"),
        "preset": args.preset,
        "steps": steps,
        "compile": args.compile,
        "threads": args.threads,
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "system": platform.system(), "load": load},
        "versions": {
            "torch": peer[0]["torch"],
            "python": platform.python_version(),
            "hearth": output(args.hearth, "--version"),
        },
        "commit": commit(),
        "commands": {
            "peer": " ".join(["python", f"bench/peers/{PEER.name}", *peer_command[2:]]),
            "hearth": " ".join(["hearth", *hearth_command[1:]]),
        },
        "disagreements": disagreements(PRESETS[args.preset][0].vocab, peer, hearth),
        "ratios": [p["step_ms_median"] / h["step_ms_median"] for p, h in zip(peer, hearth, strict=True)],
        "peer": peer,
        "hearth": hearth,
    }
    if result["disagreements"]:
        sys.exit("losses disagree, nothing written:\n" + "\n".join(result["disagreements"]))
    del result["disagreements"]
    RESULTS.mkdir(exist_ok=True)
    suffix = "-compile" if args.compile else ""
    path = RESULTS / f"{result['date']}-train-{args.preset}{suffix}-{result['commit']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    table = RESULTS / "train.md"
    row = table_row(result)
    table.write_text((table.read_text() if table.exists() else HEADER) + row)
    print(HEADER + row, end="")


if __name__ == "__main__":
    main()
