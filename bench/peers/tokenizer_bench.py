"""One turn of a peer tokenizer, for `compare_tokenizers.py`: a JSON object on the last line of stdout.

`train FILE VOCAB` trains byte-level BPE by PyPI `tokenizers` (GPT-2's pre-tokenizer) and reports seconds and
peak memory; `encode PEER TOKENIZER FILE THREADS` encodes each line and reports seconds and a digest of the ids.
Threads are set through RAYON_NUM_THREADS by the caller.
"""

import argparse
import hashlib
import json
import resource
import time
from pathlib import Path

import numpy as np


def train(text: Path, vocab: int) -> dict[str, object]:
    """BPE as `hearth tokenizer train --pre-tokenizer gpt-2` has it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    start = time.perf_counter()
    tokenizer.train([str(text)], trainer)
    return {"seconds": time.perf_counter() - start, "vocab": tokenizer.get_vocab_size()}


def encoder(peer: str, path: Path, threads: int):
    """A function from lines to lists of ids."""
    if peer == "tokenizers":
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(path))
        # What looks like a special token in the text stays text, as on the other side.
        tokenizer.encode_special_tokens = True
        return lambda lines: [e.ids for e in tokenizer.encode_batch(lines, add_special_tokens=False)]
    import tiktoken

    # GPT-2's byte alphabet: printable bytes stand for themselves, the others from U+0100 on.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    byte_of = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
    saved = json.loads(path.read_text(encoding="utf-8"))
    special = {token["content"] for token in saved["added_tokens"]}
    vocab = {token: i for token, i in saved["model"]["vocab"].items() if token not in special}
    # Ids ascend with the merges, so they serve as ranks.
    ranks = {bytes(byte_of[c] for c in token): i for token, i in vocab.items()}
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
    encoding = tiktoken.Encoding("trained", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda lines: encoding.encode_ordinary_batch(lines, num_threads=threads)


def main() -> None:
    """Parses the arguments, does the work, prints the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    action = actions.add_parser("train")
    action.add_argument("file", type=Path)
    action.add_argument("vocab", type=int)
    action = actions.add_parser("encode")
    action.add_argument("peer", choices=["tokenizers", "tiktoken"])
    action.add_argument("tokenizer", type=Path)
    action.add_argument("file", type=Path)
    action.add_argument("threads", type=int)
    args = parser.parse_args()
    if args.action == "train":
        report = train(args.file, args.vocab)
    else:
        # As Rust's `lines`: only line feeds end a line, and a carriage return before one goes with it.
        lines = [line.removesuffix("\r") for line in args.file.read_bytes().decode().removesuffix("\n").split("\n")]
        encode = encoder(args.peer, args.tokenizer, args.threads)
        start = time.perf_counter()
        ids = encode(lines)
        seconds = time.perf_counter() - start
        flat = np.fromiter((i for line in ids for i in line), dtype="<u4")
        report = {"seconds": seconds, "tokens": len(flat), "sha256": hashlib.sha256(flat.tobytes()).hexdigest()}
    report["peak_rss_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(report))


if __name__ == "__main__":
    main()
