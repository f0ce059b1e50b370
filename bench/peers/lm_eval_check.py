"""lm-eval's `local-completions` against `hearth serve`, held to `hearth eval`: `lm_eval_check.py MODEL FOLDER --hearth
BINARY --text FILE`.

Two tasks are made of the sentences of a text, a sentence a line. Multiple choice: of four endings, which is the sentence's
own? Likelihood: how likely is each sentence after its first word? lm-eval asks the server for both with the tokenizer of
FOLDER, which is MODEL as `transformers` has it. `hearth eval --tokens` then scores the same texts one by one, and the two
have to agree: the same choices, and the likelihoods to 1e-3. Prints one JSON object; exits with 1 if they don't.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager
from serve_bench import free_port, wait

ITEMS = 40
ENDINGS = 4
NEAR = 1e-3
CHOICE = """task: hearth_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{start}}}}"
doc_to_choice: "{{{{endings}}}}"
doc_to_target: "{{{{label}}}}"
target_delimiter: " "
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
LIKELY = """task: hearth_likely
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{first}}}}"
doc_to_target: " {{{{rest}}}}"
metric_list: [{{metric: perplexity}}, {{metric: acc}}]
"""


def items_of(path: Path) -> list[dict]:
    """Sentences in two halves, with endings of others."""
    draw = random.Random(1)
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    words = [line for line in lines if 8 <= len(line) <= 25][: ITEMS * 3]
    draw.shuffle(words)
    items = []
    for number in range(ITEMS):
        own = words[number]
        others = draw.sample([line for line in words if line is not own], ENDINGS - 1)
        endings = [" ".join(line[len(line) // 2 :]) for line in [own, *others]]
        label = draw.randrange(ENDINGS)
        endings[0], endings[label] = endings[label], endings[0]
        item = {"start": " ".join(own[: len(own) // 2]), "endings": endings, "label": label}
        items.append(item | {"first": own[0], "rest": " ".join(own[1:])})
    return items


def likelihood(args: argparse.Namespace, folder: Path, start: str, end: str) -> float:
    """The log-probability that `hearth eval` gives to the tokens of `end` after `start`."""
    text, tokens = folder / "text.txt", folder / "tokens.jsonl"
    text.write_text(f"{start} {end}", encoding="utf-8")
    command = [args.hearth, "eval", args.model, "--text", text, "--tokens", tokens, "--quiet", "--kv-cache", "f16"]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    scored = [json.loads(line) for line in tokens.open()]
    text.write_text(start, encoding="utf-8")
    encode = [args.hearth, "tokenizer", "encode", "--model", args.folder, text]
    ids = subprocess.run([str(part) for part in encode], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return sum(one["logprob"] for one in scored if one["position"] >= len(ids))


def main() -> None:
    """Serves, asks, and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder", help="the same model as a folder")
    parser.add_argument("--hearth", required=True)
    parser.add_argument("--text", type=Path, required=True)
    args = parser.parse_args()
    items, port = items_of(args.text), free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "items.jsonl"
        data.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
        for task, text in (("choice", CHOICE), ("likely", LIKELY)):
            folder.joinpath(f"{task}.yaml").write_text(text.format(file=data))
        serve = [args.hearth, "serve", f"model={args.model}", "--port", str(port), "--no-conversations"]
        process = subprocess.Popen(serve, stderr=subprocess.DEVNULL)
        try:
            wait(port, process)
            told = lm_eval.simple_evaluate(
                model="local-completions",
                model_args={
                    "model": "model",
                    "base_url": f"http://127.0.0.1:{port}/v1/completions",
                    "tokenizer": args.folder,
                    "num_concurrent": 4,
                    "max_length": 1024,
                },
                tasks=["hearth_choice", "hearth_likely"],
                task_manager=TaskManager(include_path=name, include_defaults=False),
                bootstrap_iters=0,
            )
        finally:
            process.terminate()
            process.wait()
        ours = [[likelihood(args, folder, item["start"], end) for end in item["endings"]] for item in items]
        likely = [likelihood(args, folder, item["first"], item["rest"]) for item in items]
    theirs = told["results"]
    chosen = [max(range(ENDINGS), key=scores.__getitem__) for scores in ours]
    found = {
        "items": len(items),
        "acc, lm-eval": theirs["hearth_choice"]["acc,none"],
        "acc, hearth eval": sum(a == item["label"] for a, item in zip(chosen, items)) / len(items),
        # Its perplexity is of sentences; their logarithm is easier to read.
        "mean likelihood of a sentence, lm-eval": -math.log(theirs["hearth_likely"]["perplexity,none"]),
        "mean likelihood of a sentence, hearth eval": sum(likely) / len(likely),
    }
    samples = sorted(told["samples"]["hearth_choice"], key=lambda sample: sample["doc_id"])
    apart = [abs(float(a[0]) - b) for sample, row in zip(samples, ours) for a, b in zip(sample["filtered_resps"], row)]
    sentences = sorted(told["samples"]["hearth_likely"], key=lambda sample: sample["doc_id"])
    apart += [abs(float(sample["filtered_resps"][0][0]) - own) for sample, own in zip(sentences, likely)]
    found["largest difference of a likelihood"] = max(apart)
    print(json.dumps(found))
    sys.exit(max(apart) > NEAR or found["acc, lm-eval"] != found["acc, hearth eval"])


if __name__ == "__main__":
    main()
