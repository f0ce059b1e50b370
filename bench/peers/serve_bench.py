"""Hearth's server against llama-server, in turn: `serve_bench.py MODEL.gguf --hearth BINARY --peer LLAMA_SERVER`.

Both listen at once, each with two threads; only one is asked at a time. Each round asks one and then the other for the
same prompts: 1, 4 and 16 streams of 128 random tokens that are continued by 128 (`/v1/completions`, greedy, no end
before that). No prompt comes twice, so no cache helps. Tokens a second are those written by all streams, from the first
request sent to the last token received; the time to the first token is the median over the streams. Then, for
Hearth alone, prompts of 1,000 tokens: how soon a second one with the same beginning is answered.

Writes `bench/results/DATE-serve-COMMIT.json` and rows of `bench/results/serve.md`.
"""

import argparse
import asyncio
import json
import random
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from machine import commit, cpu_model

RESULTS = Path(__file__).parents[1] / "results"
PROMPT = WRITTEN = 128
PREFIX = 1000
STREAMS = (1, 4, 16)
HEADER = (
    "| date | what | rounds | llama-server | Hearth | Hearth ÷ llama-server (least–greatest) | machine | commit |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait(port: int, process: subprocess.Popen) -> None:
    """Until the server answers."""
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{process.args[0]} doesn't answer")


async def stream(port: int, prompt: list[int], written: int) -> tuple[float, float, int]:
    """When the first token of a prompt's continuation came and when the last, and how many events there were."""
    body = json.dumps(
        {"prompt": prompt, "max_tokens": written, "temperature": 0, "ignore_eos": True, "stream": True}
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    writer.write(head.encode() + f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    status = await reader.readline()
    if b" 200 " not in status:
        raise SystemExit(f"{status!r} {await reader.read()!r}")
    first = last = 0.0
    events = 0
    async for line in reader:
        if not line.startswith(b"data: {"):
            continue
        last = time.perf_counter()
        first = first or last
        events += 1
    writer.close()
    return first, last, events


async def crowd(port: int, prompts: list[list[int]]) -> tuple[float, float]:
    """Tokens a second over all streams, and the median time to the first token."""
    start = time.perf_counter()
    ends = await asyncio.gather(*(stream(port, prompt, WRITTEN) for prompt in prompts))
    firsts = [first - start for first, _, _ in ends]
    return len(prompts) * WRITTEN / (max(last for _, last, _ in ends) - start), statistics.median(firsts)


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--hearth", required=True)
    parser.add_argument("--peer", required=True, help="llama-server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vocabulary", type=int, default=48_000, help="random tokens are below this")
    args = parser.parse_args()
    ports = {"llama-server": free_port(), "Hearth": free_port()}
    most = max(STREAMS)
    commands = {
        "llama-server": [args.peer, "-m", args.model, "--port", ports["llama-server"], "-t", 2, "-tb", 2, "-np", most]
        + ["-c", most * 512],
        "Hearth": [args.hearth, "serve", args.model, "--port", ports["Hearth"], "--threads", 2, "--no-conversations"],
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = {name: subprocess.Popen([str(part) for part in command], **quiet) for name, command in commands.items()}
    try:
        for name, process in running.items():
            wait(ports[name], process)
        found = measure(args, ports)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    report(args, found)


def measure(args: argparse.Namespace, ports: dict[str, int]) -> dict:
    """All figures."""
    draw = random.Random(1)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(1000, args.vocabulary) for _ in range(count)]

    found: dict = {}
    for name, port in ports.items():
        asyncio.run(crowd(port, [tokens(PROMPT)]))
    for streams in STREAMS:
        for _ in range(args.rounds):
            prompts = [tokens(PROMPT) for _ in range(streams)]
            for name, port in ports.items():
                speed, first = asyncio.run(crowd(port, prompts))
                found.setdefault(f"{streams} streams, tokens/s", {}).setdefault(name, []).append(speed)
                found.setdefault(f"{streams} streams, first token, s", {}).setdefault(name, []).append(first)
                print(f"{streams} streams, {name}: {speed:.1f} tokens/s, first after {first:.3f} s", file=sys.stderr)
    firsts, seconds = [], []
    for _ in range(args.rounds):
        prefix = tokens(PREFIX)
        for into in (firsts, seconds):
            start = time.perf_counter()
            first, _, _ = asyncio.run(stream(ports["Hearth"], prefix + tokens(8), 4))
            into.append(first - start)
    what = "Hearth alone, first token after 1,000 tokens, s: of a first prompt, and of a second that begins like it"
    found[what] = {"first": firsts, "second": seconds}
    return found


def report(args: argparse.Namespace, found: dict) -> None:
    """Writes the results."""
    date, at = datetime.now(UTC).strftime("%Y-%m-%d"), commit()
    RESULTS.joinpath(f"{date}-serve-{at}.json").write_text(
        json.dumps({"model": args.model.name, "rounds": args.rounds, "machine": cpu_model(), "found": found}, indent=1)
    )
    table = RESULTS / "serve.md"
    rows = ""
    for what, (theirs, ours) in ((what, found[what].values()) for what in found):
        ratios = sorted(our / their for our, their in zip(ours, theirs))
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        middle = " | ".join(f"{statistics.median(values):.3g}" for values in (theirs, ours))
        rows += f"| {date} | {args.model.name}: {what} | {args.rounds} | {middle} | {ratio} | {cpu_model()} | {at} |\n"
    if not table.exists():
        table.write_text("# Serving\n\nMedians; what each row is, says `bench/peers/serve_bench.py`.\n\n" + HEADER)
    with table.open("a") as file:
        file.write(rows)
    print(rows, end="")


if __name__ == "__main__":
    main()
