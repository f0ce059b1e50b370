"""Hearth's tokenizer against PyPI `tokenizers`, `tiktoken` and the crate `tokenizers`, in turn.

`compare_tokenizers.py FILE --hearth target/release/hearth` trains byte-level BPE on FILE (a text a line), peer,
Hearth, peer, Hearth …, at each vocabulary; then encodes FILE by each library with the last vocabulary that Hearth
trained, on one thread and on two, and checks that all give the same ids. Hearth's training is timed as a whole
process, the peer's without its start. Needs `cargo build --release -p hearth-tokenizer --example encode_speed`.
Writes `bench/results/DATE-tokenizers-COMMIT.json` and rows of `bench/results/tokenizers.md`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from machine import commit, cpu_model

PEER = Path(__file__).with_name("tokenizer_bench.py")
RESULTS = Path(__file__).parents[1] / "results"
HEADER = (
    "| date | what | peer | rounds | peer | Hearth | Hearth ÷ peer, speed (least–greatest) | peer RSS MB "
    "| Hearth RSS MB | machine | commit |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def timed(command: list[str], threads: int) -> dict:
    """Runs a command to its end: wall seconds, peak memory, and the JSON on its last line if there is one."""
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)} exited with {process.returncode}")
        out.seek(0)
        lines = out.read().decode().splitlines()
    report = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return {"seconds": seconds, "peak_rss_bytes": 1024 * usage.ru_maxrss, **report}


def row(what: str, peer: str, theirs: list[float], ours: list[float], memory: tuple[str, str], unit: str, end: str) -> str:
    """A row under HEADER; `theirs` and `ours` are rates where `unit` is MB/s, else seconds."""
    ratios = [b / a if unit == "MB/s" else a / b for a, b in zip(theirs, ours, strict=True)]
    middle = [f"{statistics.median(values):.1f} {unit}" for values in (theirs, ours)]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    cells = [datetime.now(UTC).date().isoformat(), what, peer, str(len(ratios)), *middle, ratio, *memory, end]
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Trains and encodes in turn, then reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--hearth", required=True, help="path of the hearth binary; its examples lie beside it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vocab", type=int, nargs="+", default=[8192, 32768])
    args = parser.parse_args()
    at = commit()
    end = f"{cpu_model()}, {os.cpu_count()} cores | {at}"
    rows, raw = "", {"train": {}, "encode": {}}
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(folder) / "tokenizer"
        for vocab in args.vocab:
            theirs, ours = [], []
            flags = ["--vocab-size", str(vocab), "--pre-tokenizer", "gpt-2", "--threads", "2", "--quiet"]
            command = [args.hearth, "tokenizer", "train", "--data", str(args.file), *flags, "--out", str(trained)]
            for _ in range(args.rounds):
                theirs.append(timed([sys.executable, str(PEER), "train", str(args.file), str(vocab)], 2))
                ours.append(timed(command, 2))
            raw["train"][vocab] = {"peer": theirs, "hearth": ours}
            seconds = [[run["seconds"] for run in runs] for runs in (theirs, ours)]
            memory = tuple(f"{max(run['peak_rss_bytes'] for run in runs) / 1e6:.0f}" for runs in (theirs, ours))
            peer = f"PyPI tokenizers {version('tokenizers')}"
            rows += row(f"train {vocab}, 2 threads", peer, *seconds, memory, "s", end)
            print(rows.splitlines()[-1], file=sys.stderr)
        tokenizer = str(trained / "tokenizer.json")
        example = str(Path(args.hearth).parent / "examples" / "encode_speed")
        encoded = timed([example, tokenizer, str(args.file), str(args.rounds)], 2)
        raw["encode"]["crate"] = encoded
        for threads in (1, 2):
            ours = encoded[f"threads_{threads}"]["hearth"]
            what = f"encode, vocabulary {args.vocab[-1]}, {threads} thread{'s' * (threads > 1)}"
            rows += row(what, "crate tokenizers", encoded[f"threads_{threads}"]["crate"], ours, ("", ""), "MB/s", end)
            for peer in ("tokenizers", "tiktoken"):
                command = [sys.executable, str(PEER), "encode", peer, tokenizer, str(args.file), str(threads)]
                run = timed(command, threads)
                raw["encode"][f"{peer} {threads}"] = run
                if run["sha256"] != encoded["sha256"]:
                    sys.exit(f"{peer} gives other ids")
                rate = encoded["megabytes"] / run["seconds"]
                middle = statistics.median(ours)
                rows += row(what, f"PyPI {peer} {version(peer)}", [rate], [middle], ("", ""), "MB/s", end)
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "file_bytes": args.file.stat().st_size,
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {name: version(name) for name in ("tokenizers", "tiktoken")},
        "commit": at,
        **raw,
    }
    date = result["date"][:10]
    (RESULTS / f"{date}-tokenizers-{at}.json").write_text(json.dumps(result, indent=1) + "\n")
    table = RESULTS / "tokenizers.md"
    table.write_text((table.read_text() if table.exists() else HEADER) + rows)
    print(HEADER + rows, end="")


if __name__ == "__main__":
    main()
