"""Questions on passages: the same run in `transformers` as `hearth finetune qa`.

`split` holds passages out of a SQuAD file, by hash. `run` fine-tunes a BERT folder and prints one JSON object; training alone
is timed. `check` opens a folder that Hearth wrote, answers questions with it, and holds the answers against those that
`hearth answer` gave. `score` says how many answers of such a file are right.
"""

import argparse
import difflib
import hashlib
import json
import re
import resource
import time
from pathlib import Path

from few_labels import config_of


def questions_of(path: Path) -> list[dict]:
    """The questions whose first answer is where the file says; the others can't be used."""
    rows = []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answer, context = question["answers"][0], paragraph["context"]
                start = answer["answer_start"]
                if context[start : start + len(answer["text"])] == answer["text"]:
                    rows.append({"id": question["id"], "question": question["question"], "context": context, **answer})
    return rows


def split(args: argparse.Namespace) -> None:
    """Writes train.json and valid.json, which has the passages that hash to 0 of 5."""
    parts = {"train": [], "valid": []}
    for article in json.loads(args.data.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            held_out = hashlib.sha256(paragraph["context"].encode()).digest()[0] % 5 == 0
            parts["valid" if held_out else "train"].append({"paragraphs": [paragraph]})
    args.out.mkdir(parents=True, exist_ok=True)
    for name, articles in parts.items():
        text = json.dumps({"version": "v1.0", "data": articles}, ensure_ascii=False)
        (args.out / f"{name}.json").write_text(text, encoding="utf-8")


def tokens_of(text: str) -> list[str]:
    """Chinese characters one by one, other words whole; no punctuation."""
    return re.findall(r"[a-z0-9]+|[^\W\d_a-z]", text.lower())


def score(args: argparse.Namespace) -> None:
    """Exact matches, and F1 by the longest common stretch, as CMRC 2018 counts it, in percent; the best of the right answers."""
    right = {}
    for article in json.loads(args.data.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                right[question["id"]] = [tokens_of(answer["text"]) for answer in question["answers"]]
    exact = f1 = count = 0
    for line in args.answers.read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)
        said, best = tokens_of(answer["answer"] or ""), 0.0
        for gold in right[answer["id"]]:
            same = difflib.SequenceMatcher(None, said, gold, autojunk=False).find_longest_match().size
            best = max(best, 2 * same / (len(said) + len(gold)) if same else 0.0)
        exact, f1, count = exact + (said in right[answer["id"]]), f1 + best, count + 1
    print(json.dumps({"questions": count, "exact": 100 * exact / count, "f1": 100 * f1 / count}))


def windows_of(rows: list[dict], tokenizer, limit: int, stride: int) -> list[dict]:
    """Windows with the places of the answers' first and last tokens; [CLS] where a window doesn't hold all of one."""
    encoded = tokenizer(
        [row["question"] for row in rows],
        [row["context"] for row in rows],
        truncation="only_second",
        max_length=limit,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
        split_special_tokens=True,
    )
    windows = []
    for window, example in enumerate(encoded["overflow_to_sample_mapping"]):
        row, offsets, sequence = rows[example], encoded["offset_mapping"][window], encoded.sequence_ids(window)
        places = [place for place, part in enumerate(sequence) if part == 1]
        for place in places:
            offsets[place] = without_spaces(row["context"], *offsets[place])
        start, end = row["answer_start"], row["answer_start"] + len(row["text"])
        first = last = 0
        if places and offsets[places[0]][0] <= start and offsets[places[-1]][1] >= end:
            held = [place for place in places if offsets[place][1] > start and offsets[place][0] < end]
            first, last = (held[0], held[-1]) if held else (0, 0)
        ids, types = encoded["input_ids"][window], encoded["token_type_ids"][window]
        windows.append({"ids": ids, "types": types, "span": (first, last), "example": example, "offsets": offsets, "places": places})
    return windows


def without_spaces(text: str, start: int, end: int) -> tuple[int, int]:
    """A byte-level token may begin with a space, which is no part of an answer."""
    start = end - len(text[start:end].lstrip(" "))
    return start, start + len(text[start:end].rstrip(" "))


def batch_of(windows: list[dict]) -> dict:
    """Padded tensors."""
    import torch

    longest = max(len(window["ids"]) for window in windows)
    shape = (len(windows), longest)
    tokens, types, mask = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    for row, window in enumerate(windows):
        count = len(window["ids"])
        tokens[row, :count] = torch.tensor(window["ids"])
        types[row, :count] = torch.tensor(window["types"])
        mask[row, :count] = 1
    return {"input_ids": tokens, "token_type_ids": types, "attention_mask": mask}


def tokenizer_of(model: Path):
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(model / "tokenizer.json"))
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def run(args: argparse.Namespace) -> None:
    """Fine-tunes for some steps."""
    import safetensors.torch
    import torch
    import transformers
    from transformers import BertConfig, BertForQuestionAnswering

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    transformers.logging.set_verbosity_error()
    model = BertForQuestionAnswering(BertConfig(**config_of(args.model)))
    weights = safetensors.torch.load_file(args.model / "model.safetensors")
    missing, _ = model.bert.load_state_dict(weights, strict=False)
    assert not missing, missing
    windows = windows_of(questions_of(args.data), tokenizer_of(args.model), args.max_tokens, min(128, args.max_tokens // 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01, fused=True)
    steps = args.steps or args.epochs * -(-len(windows) // args.batch)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, -(-steps // 10), steps)
    model.train()
    epochs = -(-steps * args.batch // len(windows))
    order = [place for _ in range(epochs) for place in torch.randperm(len(windows)).tolist()]
    losses = []
    started = time.perf_counter()
    for step in range(steps):
        chosen = [windows[place] for place in order[step * args.batch :][: args.batch]]
        first, last = torch.tensor([window["span"] for window in chosen]).T
        loss = model(**batch_of(chosen), start_positions=first, end_positions=last).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    seconds = time.perf_counter() - started
    if args.out:
        model.save_pretrained(args.out)
        (args.out / "tokenizer.json").write_bytes((args.model / "tokenizer.json").read_bytes())
        settings = json.loads((args.model / "tokenizer_config.json").read_text()) | {"model_max_length": args.max_tokens}
        (args.out / "tokenizer_config.json").write_text(json.dumps(settings))
    print(
        json.dumps(
            {
                "windows": len(windows),
                "last_loss": losses[-1],
                "seconds": seconds,
                "examples_per_second": steps * args.batch / seconds,
                "steps": steps,
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


def check(args: argparse.Namespace) -> None:
    """Answers from the folder by `transformers`, beside those of `hearth answer`."""
    import torch
    from transformers import BertForQuestionAnswering

    model = BertForQuestionAnswering.from_pretrained(args.model).eval()
    rules = json.loads((args.model / "hearth.json").read_text())["answers"]
    limit = json.loads((args.model / "tokenizer_config.json").read_text())["model_max_length"]
    rows = questions_of(args.data)[: args.count]
    said = {}
    for line in args.answers.read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)
        said[answer["id"]] = answer
    windows = windows_of(rows, tokenizer_of(args.model), limit, rules["stride"])
    best = {}
    with torch.no_grad():
        for window in windows:
            logits = model(**batch_of([window]))
            starts, ends = logits.start_logits[0].tolist(), logits.end_logits[0].tolist()
            for at, first in enumerate(window["places"]):
                for last in window["places"][at : at + rules["max_answer_tokens"]]:
                    found = (starts[first] + ends[last], window["offsets"][first][0], window["offsets"][last][1])
                    best[window["example"]] = max(best.get(window["example"], found), found)
    same = sum(
        best[i][1:] == (said[row["id"]]["start"], said[row["id"]]["end"]) for i, row in enumerate(rows) if i in best
    )
    print(json.dumps({"questions": len(rows), "same_answers": same}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run")
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--steps", type=int, default=0, help="instead of --epochs")
    command.add_argument("--epochs", type=int, default=1)
    command.add_argument("--batch", type=int, default=16)
    command.add_argument("--lr", type=float, default=5e-5)
    command.add_argument("--max-tokens", type=int, default=256)
    command.add_argument("--threads", type=int, default=2)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", type=Path, help="where the model goes")
    command.set_defaults(call=run)
    command = commands.add_parser("split")
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(call=split)
    command = commands.add_parser("score")
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--answers", type=Path, required=True, help="what hearth answer wrote for the same file")
    command.set_defaults(call=score)
    command = commands.add_parser("check")
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--answers", type=Path, required=True, help="what hearth answer wrote for the same file")
    command.add_argument("--count", type=int, default=100)
    command.set_defaults(call=check)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
