"""Span F1 of Hearth's taggers beside sklearn-crfsuite's CRF, on the same held-out tenth of a CoNLL file.

    cargo build --release -p hearth-train --example crf_tagger
    python crf_tagger.py train.conll --hearth ../../target/release/examples/crf_tagger --salts 0 1 2 3 4

A sentence is held out if sha256(salt, its tokens) says so. Both learn from the same sentences and both are scored by
seqeval. The peer has two sets of features: `usual` are those of sklearn-crfsuite's tutorial on named entities, less the
parts of speech, which the data doesn't have; `window` adds what is usual for Chinese, the tokens up to two away and
their pairs. Its penalties and iterations are the tutorial's.
Packages: sklearn-crfsuite 0.5.0, seqeval 1.2.2.
"""

import argparse
import hashlib
import subprocess
import tempfile
import time
from pathlib import Path

import sklearn_crfsuite
from seqeval.metrics import f1_score


def read(path):
    blocks = Path(path).read_text(encoding="utf-8").split("\n\n")
    return [[tuple(line.split("\t")) for line in block.splitlines()] for block in blocks if block.strip()]


def write(path, sentences):
    blocks = ["".join(f"{token}\t{tag}\n" for token, tag in sentence) for sentence in sentences]
    path.write_text("\n".join(blocks), encoding="utf-8")


def is_held_out(sentence, salt):
    tokens = "\n".join(token for token, _ in sentence)
    digest = hashlib.sha256(f"{salt}\n{tokens}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 10 == 0


def form(word, prefix=""):
    return {
        prefix + "word.lower()": word.lower(),
        prefix + "word.isupper()": word.isupper(),
        prefix + "word.istitle()": word.istitle(),
    }


def usual(words, i):
    word = words[i]
    out = {"bias": 1.0, "word[-3:]": word[-3:], "word[-2:]": word[-2:], "word.isdigit()": word.isdigit()}
    out |= form(word)
    out |= form(words[i - 1], "-1:") if i > 0 else {"BOS": True}
    out |= form(words[i + 1], "+1:") if i < len(words) - 1 else {"EOS": True}
    return out


def window(words, i):
    out = usual(words, i)
    near = {j: words[i + j] if 0 <= i + j < len(words) else "<>" for j in range(-2, 3)}
    out |= {f"{j}": near[j] for j in near}
    out |= {f"{j},{k}": near[j] + near[k] for j, k in [(-2, -1), (-1, 0), (0, 1), (1, 2), (-1, 1)]}
    return out


def peer(features, training, test):
    attributes = lambda part: [[features([t for t, _ in s], i) for i in range(len(s))] for s in part]
    crf = sklearn_crfsuite.CRF(algorithm="lbfgs", c1=0.1, c2=0.1, max_iterations=100, all_possible_transitions=True)
    crf.fit(attributes(training), [[tag for _, tag in sentence] for sentence in training])
    return crf.predict(attributes(test))


def hearth(command, training, test):
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("train.conll", "test.conll")]
        for path, part in zip(paths, (training, test)):
            write(path, part)
        run = subprocess.run([command[0], *map(str, paths), *command[1:]], capture_output=True, text=True, check=True)
    print("   ", run.stderr.strip().replace("\n", "; "))
    return [block.splitlines() for block in run.stdout.split("\n\n") if block.strip()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--hearth", required=True, help="the example crf_tagger, built")
    parser.add_argument("--salts", nargs="+", default=["0"])
    parser.add_argument("--ours", nargs="+", default=["crf", "hmm"], help="arguments of the example, each quoted as one")
    parser.add_argument("--no-peer", action="store_true")
    args = parser.parse_args()
    sentences = read(args.data)
    scores = {}
    for salt in args.salts:
        test = [s for s in sentences if is_held_out(s, salt)]
        training = [s for s in sentences if not is_held_out(s, salt)]
        runs = {f"hearth {o}": lambda o=o: hearth([args.hearth, *o.split()], training, test) for o in args.ours}
        if not args.no_peer:
            runs |= {f"sklearn-crfsuite {f.__name__}": lambda f=f: peer(f, training, test) for f in (usual, window)}
        for name, run in runs.items():
            start = time.time()
            f1 = f1_score([[tag for _, tag in sentence] for sentence in test], run())
            scores.setdefault(name, []).append(f1)
            print(f"salt {salt}: {len(training)} train, {len(test)} test: {name}: F1 {f1:.4f}, {time.time() - start:.1f} s", flush=True)
    for name, values in scores.items():
        print(f"mean of {len(values)}: {name}: F1 {sum(values) / len(values):.4f}")


if __name__ == "__main__":
    main()
