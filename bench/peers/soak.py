"""Many clients at once for a while: `soak.py MODEL --hearth BINARY [--minutes 10] [--clients 32]`.

Each client asks for answers of all lengths to prompts of all lengths, streamed or whole; a third of the requests are
left at a random moment. Each prompt carries a word that only its own answer may hold. At the end: no answer held
another's word, no status was 5xx or none of OpenAI's, nothing runs or waits any more, the server's memory stayed
within 5% from the third minute on, and it ends when it's told to. Prints one JSON object; exits with 1 if something was
wrong.
"""

import argparse
import asyncio
import collections
import json
import random
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from serve_bench import free_port, wait

MEMORY_BOUND = 1.05
SETTLED_S = 180


class Soak:
    """What all clients share."""

    def __init__(self, port: int, end: float) -> None:
        self.port = port
        self.end = end
        self.statuses: collections.Counter = collections.Counter()
        self.left = 0
        self.repeated = 0
        self.wrong: list[str] = []
        self.words: set[str] = set()

    async def client(self, number: int) -> None:
        """Asks until the end."""
        draw = random.Random(number)
        while time.monotonic() < self.end:
            word = f"z{secrets.token_hex(4)}"
            self.words.add(word)
            try:
                await asyncio.wait_for(self.ask(draw, word), 300)
            except TimeoutError:
                self.wrong.append("an answer took more than 300 s")
            self.words.discard(word)

    async def ask(self, draw: random.Random, word: str) -> None:
        """One request, to its end or not."""
        filler = "The weather was fine that day. " * int(draw.expovariate(1 / 8))
        content = f"{filler}The password is {word}. Repeat the password."
        streamed = draw.random() < 0.7
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 1 + int(draw.expovariate(1 / 40))}
        body |= {"stream": streamed, "temperature": 0.5}
        data = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:{self.port}\r\nConnection: close\r\n"
        writer.write(head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        try:
            if draw.random() < 1 / 3:
                self.left += 1
                await asyncio.wait_for(reader.read(), draw.expovariate(1 / 2))
                return
            answer = (await reader.read()).decode()
        except (TimeoutError, ConnectionError):
            return
        finally:
            writer.close()
        self.check(answer, word, streamed)

    def check(self, answer: str, word: str, streamed: bool) -> None:
        """An answer that came to its end."""
        status = answer.split(" ", 2)[1] if answer.startswith("HTTP/1.1 ") else "none"
        self.statuses[status] += 1
        if streamed:
            pieces = re.findall(r"^data: (\{.*\})$", answer, re.MULTILINE)
            choices = [choice for piece in pieces for choice in json.loads(piece).get("choices", [])]
            text = "".join(choice["delta"].get("content") or "" for choice in choices)
            if status == "200" and "data: [DONE]" not in answer:
                self.wrong.append(f"a stream has no end: {answer[-200:]}")
        else:
            text = answer
        self.repeated += word in text
        others = [other for other in self.words if other != word and other in text]
        if others:
            self.wrong.append(f"an answer holds another's word: {text}")


def memory(process: subprocess.Popen) -> int:
    """Bytes that are the process's own, without files that it only maps."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) * 1024


async def run(soak: Soak, process: subprocess.Popen, clients: int) -> list[tuple[float, int]]:
    """All clients, and what memory was taken meanwhile, by seconds since the beginning."""
    running = asyncio.gather(*(soak.client(number) for number in range(clients)))
    start, taken = time.monotonic(), []
    while not running.done():
        taken.append((time.monotonic() - start, memory(process)))
        await asyncio.wait([running], timeout=5)
    await running
    return taken


def main() -> None:
    """Starts a server, and lets the clients go."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--hearth", required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=32)
    args = parser.parse_args()
    port = free_port()
    command = [args.hearth, "serve", args.model, "--port", str(port), "--no-conversations", "--cache-mb", "512"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait(port, process)
        soak = Soak(port, time.monotonic() + args.minutes * 60)
        taken = asyncio.run(run(soak, process, args.clients))
        time.sleep(2)
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    finally:
        process.send_signal(signal.SIGTERM)
    stopped = process.wait(30)
    still = re.findall(r"^(hearth_\w*(?:running|waiting)\w*)(?:\{.*\})? ([1-9].*)$", metrics, re.MULTILINE)
    settled = [bytes for at, bytes in taken if at >= min(SETTLED_S, args.minutes * 60 * 0.3)]
    growth = max(settled) / settled[0]
    wrong = soak.wrong[:5]
    wrong += [f"status {status}" for status in soak.statuses if status not in ("200", "429")]
    wrong += [f"{name} is {value} at the end" for name, value in still]
    wrong += [f"memory grew by {growth - 1:.1%}"] if growth > MEMORY_BOUND else []
    wrong += [f"the server ended with {stopped}"] if stopped != 0 else []
    print(
        json.dumps(
            {
                "minutes": args.minutes,
                "clients": args.clients,
                "answers": soak.statuses,
                "left": soak.left,
                "repeated_their_word": soak.repeated,
                "memory_mb": [round(bytes / 1e6) for _, bytes in taken[:: max(1, len(taken) // 20)]],
                "memory_growth": growth,
                "wrong": wrong,
            }
        )
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
