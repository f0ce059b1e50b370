"""Hearth against sentence-transformers, in turn: `compare_embeddings.py --hearth BINARY --text FILE MODEL`.

MODEL is a folder that both open, FILE has a text a line or is JSONL with a field `text`. The first 1,000 texts of 16
to 30 words are embedded in batches of 32 on two threads (peer, Hearth in f32, Hearth in int8, …), and 100 texts one at
a time, Hearth's through a pipe. It ends with an error unless vectors in f32 are equal to 1e-4 and those in int8 have a
cosine of at least 0.999. Writes `bench/results/DATE-embeddings-COMMIT.json` and rows of `bench/results/embeddings.md`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import sentence_transformers
import torch
from machine import commit, cpu_model

RESULTS = Path(__file__).parents[1] / "results"
TEXTS, QUERIES, BATCH, THREADS = 1000, 100, 32, 2
WORDS = range(16, 31)
HEADER = (
    "| date | model | what | rounds | sentence-transformers | Hearth | ratio (least–greatest) | machine | commit |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def read_texts(file: Path) -> list[str]:
    """The first texts of the wanted length."""
    texts = []
    for line in file.read_text(encoding="utf-8").rstrip("\n").split("\n"):
        text = json.loads(line)["text"] if line.startswith("{") else line
        text = " ".join(text.split())
        if len(text.split()) in WORDS:
            texts.append(text)
        if len(texts) == TEXTS:
            return texts
    sys.exit(f"{file}: {len(texts)} texts of {WORDS.start} to {WORDS.stop - 1} words, {TEXTS} are needed")


class Hearth:
    """`hearth embed` with weights in one type."""

    def __init__(self, binary: str, model: Path, kind: str) -> None:
        self.command = [binary, "embed", str(model), "--type", kind, "--batch", str(BATCH), "--threads", str(THREADS)]

    def all(self, file: Path) -> tuple[np.ndarray, dict]:
        """The vectors of a file's lines, and what the command says of itself."""
        command = [*self.command, "--in", str(file), "--json", "--quiet"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        *lines, last = done.stdout.splitlines()
        return np.array([np.array(line.split(), dtype=np.float32) for line in lines]), json.loads(last)

    def one_by_one(self, texts: list[str]) -> list[float]:
        """Milliseconds from a line written to the line read back, after a few to warm up."""
        command = [*self.command, "--in", "-", "--quiet"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin and process.stdout
            times = []
            for text in [*texts[:5], *texts]:
                started = time.perf_counter()
                process.stdin.write(text.encode() + b"\n")
                process.stdin.flush()
                process.stdout.readline()
                times.append(1000 * (time.perf_counter() - started))
            process.stdin.close()
        return times[5:]


def peer_one_by_one(model: sentence_transformers.SentenceTransformer, texts: list[str]) -> list[float]:
    """Milliseconds a call, after a few to warm up."""
    times = []
    for text in [*texts[:5], *texts]:
        started = time.perf_counter()
        model.encode(text, show_progress_bar=False)
        times.append(1000 * (time.perf_counter() - started))
    return times[5:]


def check(name: str, ours: np.ndarray, theirs: np.ndarray) -> dict:
    """How far vectors are from the peer's; ends if that is too far."""
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    far = {
        "greatest_difference": float(np.abs(ours - theirs).max()),
        "least_cosine": float(((ours * theirs).sum(axis=1) / norms).min()),
    }
    good = far["greatest_difference"] <= 1e-4 if name == "f32" else far["least_cosine"] >= 0.999
    if not good:
        sys.exit(f"{name}: vectors differ from the peer's: {far}")
    return far


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--hearth", required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dry", action="store_true", help="write no result")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    texts = read_texts(args.text)
    peer = sentence_transformers.SentenceTransformer(str(args.model), device="cpu")
    ours = {kind: Hearth(args.hearth, args.model, kind) for kind in ("f32", "q8_0")}
    rounds: list[dict] = []
    far = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.txt"
        file.write_text("".join(f"{text}\n" for text in texts))
        peer.encode(texts[:BATCH], batch_size=BATCH, show_progress_bar=False)
        for _ in range(args.rounds):
            started = time.perf_counter()
            theirs = peer.encode(texts, batch_size=BATCH, show_progress_bar=False)
            figures = {"peer": {"texts_per_second": TEXTS / (time.perf_counter() - started)}}
            for kind, hearth in ours.items():
                vectors, said = hearth.all(file)
                far[kind] = check(kind, vectors, theirs)
                figures[kind] = {"texts_per_second": said["texts_per_second"], "tokens": said["tokens"]}
            figures["peer"]["query_ms"] = statistics.median(peer_one_by_one(peer, texts[:QUERIES]))
            for kind, hearth in ours.items():
                figures[kind]["query_ms"] = statistics.median(hearth.one_by_one(texts[:QUERIES]))
            rounds.append(figures)
            print(json.dumps(figures), flush=True)
    at, date = commit(), datetime.now(UTC).date().isoformat()
    rows = ""
    for kind in ours:
        for what, key, unit in (("1,000 texts", "texts_per_second", "texts/s"), ("one query", "query_ms", "ms")):
            pairs = [(figures["peer"][key], figures[kind][key]) for figures in rounds]
            ratios = [hearth / peer for peer, hearth in pairs]
            middle = [f"{statistics.median(values):.1f} {unit}" for values in zip(*pairs, strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            machine = f"{cpu_model()}, {os.cpu_count()} cores"
            cells = [date, args.model.name, f"{what}, {kind}", str(len(rounds)), *middle, ratio, machine, at]
            rows += f"| {' | '.join(cells)} |\n"
    print(rows, json.dumps(far), sep="")
    if args.dry:
        return
    versions = {"sentence_transformers": sentence_transformers.__version__, "torch": torch.__version__}
    raw = {"versions": versions, "far": far, "rounds": rounds}
    (RESULTS / f"{date}-embeddings-{at}.json").write_text(json.dumps(raw, indent=1))
    table = RESULTS / "embeddings.md"
    table.write_text((table.read_text() if table.exists() else HEADER) + rows)


if __name__ == "__main__":
    main()
