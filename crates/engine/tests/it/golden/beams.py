"""Makes beams.json: beam searches as transformers does them, over the tiny models of crates/train/tests/golden.

    pip install torch==2.15.0 transformers==5.24.0
    python beams.py

Float32 on the CPU, eager attention. A sequence ends with its end token, or with as many tokens as it may have. A case
whose scores lie close together is left out, for rounding would decide its order.
"""
import json, pathlib
import torch, transformers

FOLDER = pathlib.Path(__file__).parent
MODELS = FOLDER / "../../../../train/tests/golden"
PROMPTS = [[3, 14, 15, 92, 65], [35, 8, 79, 9], [1]]
CASES = [  # prompt, beams, length penalty, tokens, end
    (0, 1, 1.0, 8, 9), (0, 2, 1.0, 8, 9), (0, 4, 1.0, 6, 9), (0, 4, 0.0, 6, 51), (0, 4, 2.5, 6, 51), (0, 5, -1.0, 5, 56),
    (1, 3, 1.0, 10, 31), (1, 8, 1.0, 12, 7), (1, 8, 0.5, 12, 9), (2, 6, 1.0, 9, 66), (2, 16, 1.3, 7, 9), (2, 3, 1.0, 1, 9),
]
CLOSE = 1e-3


def search(model, prompt, beams, penalty, tokens, end) -> list[dict]:
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, num_beams=beams, do_sample=False,
        length_penalty=penalty, early_stopping=beams > 1, num_return_sequences=beams, eos_token_id=end,
        pad_token_id=end, return_dict_in_generate=True, output_scores=True,
    )
    found = []
    scores = out.sequences_scores.tolist() if beams > 1 else [None]
    for sequence, score in zip(out.sequences[:, len(prompt):].tolist(), scores, strict=True):
        if end in sequence:
            sequence = sequence[: sequence.index(end) + 1]
        found.append({"tokens": sequence, "score": score})
    return found


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    cases = []
    for name in ("qwen3", "gpt2", "gemma3"):
        model = transformers.AutoModelForCausalLM.from_pretrained(MODELS / name, attn_implementation="eager").float().eval()
        for prompt, *rest in CASES:
            found = search(model, PROMPTS[prompt], *rest)
            gaps = [a["score"] - b["score"] for a, b in zip(found, found[1:])]
            if min(gaps, default=1.0) > CLOSE:
                keys = ("beams", "length_penalty", "max_tokens", "end")
                cases.append({"model": name, "prompt": PROMPTS[prompt], **dict(zip(keys, rest)), "found": found})
    lines = ",\n".join(json.dumps(case) for case in cases)
    (FOLDER / "beams.json").write_text(f"[\n{lines}\n]\n")
    ended = sum(found["tokens"][-1] == case["end"] for case in cases for found in case["found"])
    print(len(cases), "cases,", sum(len(case["found"]) for case in cases), "sequences,", ended, "ended")


main()
