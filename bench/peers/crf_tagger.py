"""Span F1 of Hearth's taggers beside sklearn-crfsuite's CRF, on the same held-out tenth of a CoNLL file.

    python crf_tagger.py train.conll --hearth ../../target/release/hearth --salts 0 1 2 3 4

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


def hearth(binary, kind, training, test):
    with tempfile.TemporaryDirectory() as folder:
        train, held, words, model = (Path(folder, name) for name in ("train.conll", "test.conll", "words.conll", "model"))
        write(train, training)
        write(held, test)
        words.write_text("\n".join("".join(f"{token}\n" for token, _ in s) for s in test), encoding="utf-8")
        # Networks choose their epoch by a tenth of what they may learn from; the others choose nothing.
        judged = ["--holdout", "0.1"] if kind in ("cnn", "rnn", "lstm", "gru") else ["--valid", held]
        learn = [binary, "finetune", "tag", "--model", kind, "--data", train, *judged, "--out", model, "--quiet"]
        subprocess.run(list(map(str, learn)), check=True, capture_output=True)
        tag = [binary, "tag", model, "--in", words, "--quiet"]
        run = subprocess.run(list(map(str, tag)), capture_output=True, text=True, check=True)
    blocks = [block for block in run.stdout.split("\n\n") if block.strip()]
    return [[line.rsplit("\t", 1)[1] for line in block.splitlines()] for block in blocks]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--hearth", required=True, help="the binary")
    parser.add_argument("--salts", nargs="+", default=["0"])
    parser.add_argument("--ours", nargs="+", default=["crf", "hmm"], help="kinds: crf, hmm, cnn, rnn, lstm, gru")
    parser.add_argument("--no-peer", action="store_true")
    args = parser.parse_args()
    sentences = read(args.data)
    scores = {}
    for salt in args.salts:
        test = [s for s in sentences if is_held_out(s, salt)]
        training = [s for s in sentences if not is_held_out(s, salt)]
        runs = {f"hearth {o}": lambda o=o: hearth(args.hearth, o, training, test) for o in args.ours}
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
