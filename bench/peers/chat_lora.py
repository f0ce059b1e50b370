"""LoRA on conversations: the same run in `transformers` with PEFT as `hearth finetune chat --lora`.

`data` writes conversations of one question and one answer out of the reviews that `few_labels.py split` left without
labels. `run` trains an adapter on a Llama folder in single precision and prints one JSON object; training alone is timed.
A batch is padded to its longest conversation, as `transformers`' collator does; tokens of padding don't count.
`check` opens an adapter that Hearth wrote in PEFT, and holds its logits against those of the merged folder.
"""

import argparse
import json
import resource
import time
from pathlib import Path

QUESTION = "Write a film review that begins with: "


def data(args: argparse.Namespace) -> None:
    """Writes conversations whose answers are texts of a certain length."""
    rows = [json.loads(line)["text"] for line in args.reviews.read_text(encoding="utf-8").rstrip("\n").split("\n")]
    kept = [text for text in rows if args.shortest <= len(text) <= args.longest][: args.count]
    with args.out.open("w", encoding="utf-8") as out:
        for text in kept:
            question = {"role": "user", "content": QUESTION + " ".join(text.split()[:5])}
            messages = [question, {"role": "assistant", "content": text}]
            out.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    print(len(kept), "conversations")


def lessons(tokenizer, rows: list, limit: int) -> list:
    """Ids of each conversation, and whether each carries loss: the answer, and the token that ends it."""
    out = []
    for row in rows:
        system = {"role": "system", "content": "You are a helpful AI assistant named SmolLM, trained by Hugging Face"}
        text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in [system, row["messages"][0]])
        prompt = tokenizer(text + "<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
        answer = tokenizer(row["messages"][1]["content"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
        ids, learnt = prompt + answer, [False] * len(prompt) + [True] * len(answer)
        out.append((ids[:limit], learnt[:limit]))
    return out


def run(args: argparse.Namespace) -> None:
    """Trains an adapter."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    transformers.logging.set_verbosity_error()
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    settings = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(model, settings)
    if args.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(args.model / "tokenizer.json"))
    rows = [json.loads(line) for line in args.data.read_text(encoding="utf-8").rstrip("\n").split("\n")]
    examples = lessons(tokenizer, rows, args.max_tokens)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.01, fused=True)
    steps = len(examples) // args.batch if args.steps is None else args.steps
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, -(-steps // 10), steps)
    model.train()
    tokens, losses, order, started = 0, [], torch.randperm(len(examples)).tolist(), time.perf_counter()
    for step in range(steps):
        chosen = [examples[i] for i in order[step * args.batch : (step + 1) * args.batch]]
        longest = max(len(ids) for ids, _ in chosen)
        shape = (len(chosen), longest)
        ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, -100)
        for row, (sequence, learnt) in enumerate(chosen):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
            labels[row, : len(sequence)] = torch.where(torch.tensor(learnt), torch.tensor(sequence), -100)
            tokens += len(sequence)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = {"tokens_per_second": tokens / seconds, "seconds": seconds, "steps": steps, "peak_rss_bytes": peak}
    print(json.dumps(result | {"loss_first": losses[0], "loss_last": losses[-1]}))


def check(args: argparse.Namespace) -> None:
    """Adapter in PEFT against the folder that `hearth merge` wrote."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    load = lambda path: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    adapted, merged = PeftModel.from_pretrained(load(args.model), args.adapter).eval(), load(args.merged)
    ids = torch.randint(0, adapted.config.vocab_size, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b, plain = adapted(ids).logits, merged(ids).logits, load(args.model)(ids).logits
        own = adapted.merge_and_unload()(ids).logits
    largest = lambda x: x.abs().max().item()
    print(
        json.dumps(
            {
                "largest_difference": largest(a - b),
                "largest_difference_of_peft_merging_itself": largest(a - own),
                "largest_logit": largest(a),
                "largest_change_by_adapter": largest(a - plain),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("data")
    command.add_argument("--reviews", type=Path, required=True, help="rest.jsonl of few_labels.py split")
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--count", type=int, default=256)
    command.add_argument("--shortest", type=int, default=700, help="characters of an answer")
    command.add_argument("--longest", type=int, default=1100)
    command.set_defaults(call=data)
    command = commands.add_parser("run")
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--batch", type=int, default=8)
    command.add_argument("--rank", type=int, default=16)
    command.add_argument("--lr", type=float, default=2e-4)
    command.add_argument("--max-tokens", type=int, default=512)
    command.add_argument("--steps", type=int)
    command.add_argument("--checkpointing", action="store_true", help="less memory for more time")
    command.add_argument("--threads", type=int, default=2)
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(call=run)
    command = commands.add_parser("check")
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--adapter", type=Path, required=True)
    command.add_argument("--merged", type=Path, required=True)
    command.set_defaults(call=check)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
