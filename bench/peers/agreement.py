"""Hearth beside llama.cpp, token by token: `agreement.py tokens` and `agreement.py export`, in a Python with llama_cpp.

`tokens --hearth BINARY --text FILE MODEL.gguf …` has both read each text in windows of 512 tokens that don't overlap,
and compares the ids, and the likeliest token after each position. Where the two differ, llama.cpp's logits say by how
much its choice led Hearth's. `--exact` adds a third reader: Hearth with the file's own weights in single precision, and
so without quantised activations. Exit code 1 if less than 98% agree.

`export --hearth BINARY --text FILE --prompt TEXT FOLDER …` writes each model folder as a GGUF file, and compares ids of
the text, the likeliest tokens and 64 greedy tokens. Exit code 1 if ids or greedy tokens differ.

Both write `bench/results/DATE-agreement-….json` and rows of `bench/results/agreement.md`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import llama_cpp
import numpy as np
from llama_cpp import Llama
from machine import commit

RESULTS = Path(__file__).parents[1] / "results"
WINDOW, GREEDY, WANTED = 512, 64, 0.98
# Leads in nats below which two tokens are near-ties.
NEAR = (0.1, 0.25, 0.5)
HEADER = (
    "The likeliest token after each position of a text, in windows of 512 tokens; [how](../README.md#token-by-token).\n"
    "Where the two differ, the lead is by how many nats llama.cpp's choice led Hearth's there, by llama.cpp's logits.\n"
    "With exact: how often Hearth, and llama.cpp, find the one that the file's weights give in single precision.\n"
    "For exports, greedy is the number of equal tokens from the start, of 64.\n\n"
    "| date | model | text | tokens | same ids | same likeliest | with exact: Hearth, llama.cpp | lead: median, greatest "
    "| greedy | llama.cpp | commit |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)


class Peer:
    """A model in llama.cpp."""

    def __init__(self, path: Path, window: int) -> None:
        settings = {"n_ctx": window, "n_batch": window, "n_ubatch": window, "n_threads": 1, "n_threads_batch": 1}
        self.model = Llama(str(path), verbose=False, logits_all=True, **settings)
        vocabulary = llama_cpp.llama_model_get_vocab(self.model._model.model)
        self.begins = bool(llama_cpp.llama_vocab_get_add_bos(vocabulary))

    def windows(self, text: Path, width: int) -> list[list[int]]:
        """The ids of a text, cut as `hearth eval` cuts them: each window begins with the token that begins texts."""
        tokens = self.model.tokenize(text.read_bytes(), add_bos=False, special=False)
        first = [self.model.token_bos()] if self.begins else []
        step = width - len(first)
        parts = [first + list(tokens[at : at + step]) for at in range(0, len(tokens), step)]
        return [part for part in parts if len(part) > 1]

    def logits(self, window: list[int]) -> np.ndarray:
        """[T - 1, V]: what comes after each token but the last."""
        self.model.reset()
        self.model.eval(window[:-1])
        return np.array(self.model.scores[: len(window) - 1])

    def greedy(self, prompt: str, count: int) -> tuple[list[int], list[int], list[float]]:
        """Ids of a prompt, the likeliest ones after it, and by how much each led the next likeliest."""
        ids = list(self.model.tokenize(prompt.encode(), add_bos=self.begins, special=True))
        self.model.reset()
        self.model.eval(ids)
        out, leads = [], []
        for _ in range(count):
            logits = self.model.scores[self.model.n_tokens - 1]
            first, second = np.argsort(-logits, kind="stable")[:2]
            out.append(int(first))
            leads.append(float(logits[first] - logits[second]))
            self.model.eval([int(first)])
        return ids, out, leads


def hearth_json(*command: str) -> dict:
    """The object on the last line of a `hearth` command's stdout."""
    done = subprocess.run([*command, "--json", "--quiet"], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def hearth_tokens(binary: str, model: Path, text: Path, width: int) -> list[dict]:
    """A record for each token that `hearth eval` scored."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokens.jsonl"
        hearth_json(binary, "eval", str(model), "--text", str(text), "--ctx", str(width), "--tokens", str(file))
        return [json.loads(line) for line in file.read_text().splitlines()]


def compare(binary: str, path: Path, text: Path, width: int, exact: Path | None = None) -> dict:
    """Both readers of a text, and with `exact` a third: how often two of them find the same token likeliest."""
    peer = Peer(path, width)
    windows = peer.windows(text, width)
    ours = hearth_tokens(binary, path, text, width)
    ids = [token for window in windows for token in window[1:]]
    if ids != [token["token"] for token in ours]:
        return {"same_ids": False, "tokens": len(ids), "hearth_tokens": len(ours)}
    third = [token["top_token"] for token in hearth_tokens(binary, exact, text, width)] if exact else None
    leads, far, at = [], [], 0
    same = {"hearth_peer": 0, "hearth_exact": 0, "peer_exact": 0}
    for window in windows:
        logits = peer.logits(window)
        top = logits.argmax(axis=1)
        highest = logits.max(axis=1).astype(np.float64)
        total = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
        for row in range(len(top)):
            hearth, theirs = ours[at], int(top[row])
            far.append(abs(hearth["logprob"] - float(logits[row][window[row + 1]] - total[row])))
            if hearth["top_token"] == theirs:
                same["hearth_peer"] += 1
            else:
                leads.append(float(logits[row][theirs] - logits[row][hearth["top_token"]]))
            if third:
                same["hearth_exact"] += hearth["top_token"] == third[at]
                same["peer_exact"] += theirs == third[at]
            at += 1
    if not third:
        same = {"hearth_peer": same["hearth_peer"]}
    return {
        "same_ids": True,
        "tokens": at,
        "same_top": {pair: count / at for pair, count in same.items()},
        "lead_median": float(np.median(leads)) if leads else 0.0,
        "lead_greatest": max(leads, default=0.0),
        "same_within_nats": {str(most): 1 - sum(lead > most for lead in leads) / at for most in NEAR},
        "mean_logprob_difference": float(np.mean(far)),
    }


def report(model: str, text: str, figures: dict) -> str:
    """A row of the table."""
    lead = f"{figures['lead_median']:.3f}, {figures['lead_greatest']:.3f}" if figures["same_ids"] else "–"
    share = {pair: f"{100 * same:.2f}%" for pair, same in figures.get("same_top", {}).items()}
    exact = f"{share['hearth_exact']}, {share['peer_exact']}" if "peer_exact" in share else "–"
    date, version = datetime.now(UTC).date().isoformat(), f"llama-cpp-python {llama_cpp.__version__}"
    greedy = f"{figures['greedy_equal']} of {GREEDY}" if "greedy_equal" in figures else "–"
    ids = "yes" if figures["same_ids"] else "no"
    same = share.get("hearth_peer", "–")
    cells = [date, model, text, str(figures["tokens"]), ids, same, exact, lead, greedy, version, commit()]
    return f"| {' | '.join(cells)} |\n"


def keep(what: str, rows: str, raw: dict) -> None:
    """Writes the results."""
    print(rows)
    date = datetime.now(UTC).date().isoformat()
    file = RESULTS / f"{date}-agreement-{what}-{commit()}.json"
    before = json.loads(file.read_text())["models"] if file.exists() else {}
    raw = {"versions": {"llama_cpp_python": llama_cpp.__version__}, "window": WINDOW, "models": before | raw}
    file.write_text(json.dumps(raw, indent=1) + "\n")
    table = RESULTS / "agreement.md"
    table.write_text((table.read_text() if table.exists() else HEADER) + rows)


def tokens(args: argparse.Namespace) -> bool:
    """GGUF files over texts."""
    rows, raw, good = "", {}, True
    for model in args.models:
        with tempfile.TemporaryDirectory() as folder:
            exact = Path(folder) / "exact.gguf" if args.exact else None
            if exact:
                command = [args.hearth, "convert", str(model), "--out", str(exact), "--type", "F32", "--quiet"]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            for text in args.text:
                figures = compare(args.hearth, model, text, WINDOW, exact)
                rows += report(model.name, text.name, figures)
                raw.setdefault(model.name, {})[text.name] = figures
                good &= figures["same_ids"] and figures["same_top"]["hearth_peer"] >= WANTED
                print(figures, flush=True)
    if args.dry:
        print(rows)
    else:
        keep("tokens", rows, raw)
    return good


def export(args: argparse.Namespace) -> bool:
    """Model folders that Hearth trained, as GGUF files."""
    rows, raw, good = "", {}, True
    for source in args.models:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{source.name}.gguf"
            hearth_json(args.hearth, "convert", str(source), "--out", str(file))
            config = json.loads((source / "config.json").read_text())
            context = min(config.get("max_position_embeddings") or config["n_positions"], WINDOW)
            command = [args.hearth, "generate", str(source), "--prompt", args.prompt, "--max-tokens", str(GREEDY)]
            said = hearth_json(*command, "--temperature", "0", "--ignore-eos")
            ours = said["completions"][0]["tokens"]
            peer = Peer(file, context)
            ids, theirs, leads = peer.greedy(args.prompt, GREEDY)
            texts = [said["completions"][0]["text"], peer.model.detokenize(theirs).decode(errors="replace")]
            equal = next((i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]), GREEDY)
            for text in args.text:
                figures = compare(args.hearth, file, text, context)
                figures |= {"greedy_equal": equal, "hearth_greedy": ours, "peer_greedy": theirs, "peer_leads": leads}
                figures |= {"prompt": args.prompt, "greedy_texts": texts, "same_text": texts[0] == texts[1]}
                same = texts[0] == texts[1] and said["prompt_tokens"] == len(ids)
                rows += report(f"{source.name}: {config['model_type']}", text.name, figures)
                raw.setdefault(source.name, {})[text.name] = figures
                good &= figures["same_ids"] and equal == GREEDY and same
    if args.dry:
        print(rows)
    else:
        keep("export", rows, raw)
    return good


def main() -> None:
    """Runs one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in (("tokens", tokens), ("export", export)):
        one = commands.add_parser(name)
        one.add_argument("models", type=Path, nargs="+")
        one.add_argument("--hearth", required=True)
        one.add_argument("--text", type=Path, action="append", required=True)
        one.add_argument("--dry", action="store_true", help="write no result")
        one.set_defaults(run=run)
        if run is export:
            one.add_argument("--prompt", required=True)
        else:
            one.add_argument("--exact", action="store_true")
    args = parser.parse_args()
    sys.exit(0 if args.run(args) else 1)


if __name__ == "__main__":
    main()
