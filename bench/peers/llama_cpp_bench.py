"""llama.cpp through its Python package's C interface: the twin of `hearth bench infer` and `hearth eval --half`.

`bench MODEL -p 512 -n 128` measures as llama-bench does: random tokens, an empty cache, one warm-up, logits of the
last position only. `perplexity MODEL FILE --ctx 512` scores the second half of each window, with the token in front
that begins a text if the model has one, and gives the likeliest token at each scored position. `greedy MODEL PROMPT
-n 64` continues. Each prints one JSON object. The package is built from its source distribution with
`CMAKE_ARGS=-DGGML_NATIVE=ON`, so that it uses all that the processor has.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import llama_cpp
import numpy as np
from llama_cpp import Llama

REPETITIONS = 5


def decode(model: Llama, parts: list[list[int]]) -> float:
    """Seconds to take in `parts`, one after another, from an empty cache."""
    context = model._ctx.ctx
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    start = time.perf_counter()
    for tokens in parts:
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(tokens))) != 0:
            raise SystemExit("llama_decode failed")
    llama_cpp.llama_synchronize(context)
    return time.perf_counter() - start


def decode_together(model: Llama, prompts: list[list[int]], steps: list[list[int]]) -> float:
    """Seconds in which each of several sequences takes its tokens in, a token of each a step, after its prompt."""
    context = model._ctx.ctx
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    batch = llama_cpp.llama_batch_init(512, 0, 1)

    def fill(entries: list[tuple[int, int, int, bool]]) -> None:
        batch.n_tokens = len(entries)
        for at, (token, position, sequence, wanted) in enumerate(entries):
            batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, position, 1
            batch.seq_id[at][0], batch.logits[at] = sequence, wanted
        if llama_cpp.llama_decode(context, batch) != 0:
            raise SystemExit("llama_decode failed")

    for sequence, tokens in enumerate(prompts):
        fill([(token, at, sequence, at + 1 == len(tokens)) for at, token in enumerate(tokens)])
    llama_cpp.llama_synchronize(context)
    start = time.perf_counter()
    for step, tokens in enumerate(steps):
        fill([(token, len(prompts[i]) + step, i, True) for i, token in enumerate(tokens)])
        llama_cpp.llama_synchronize(context)
    seconds = time.perf_counter() - start
    llama_cpp.llama_batch_free(batch)
    return seconds


def bench_together(args: argparse.Namespace) -> dict:
    """As llama-batched-bench: `parallel` sequences, each with a prompt of its own behind it; all rates added up."""
    count = args.parallel
    room = count * (args.prompt + args.generate + 8)
    settings = {"n_ctx": room, "n_batch": 512, "n_ubatch": 512, "n_threads": 2, "n_threads_batch": 2}
    model = Llama(args.model, verbose=False, **settings)
    # The package has no parameter for the number of sequences: the context is made again.
    parameters = model.context_params
    parameters.n_seq_max = count
    parameters.kv_unified = True
    model._ctx = llama_cpp._internals.LlamaContext(model=model._model, params=parameters, verbose=False)
    generator = np.random.default_rng(0)

    def once(steps: int) -> float:
        prompts = generator.integers(0, model.n_vocab(), (count, args.prompt)).tolist()
        return decode_together(model, prompts, generator.integers(0, model.n_vocab(), (steps, count)).tolist())

    once(8)
    rates = [count * args.generate / once(args.generate) for _ in range(REPETITIONS)]
    return {"generate_tokens_per_second": statistics.median(rates), "generate_rates": rates}


def bench(args: argparse.Namespace) -> dict:
    """Medians of tokens a second."""
    if args.parallel > 1:
        return bench_together(args)
    room = max(args.prompt, args.generate) + 8
    model = Llama(args.model, n_ctx=room, n_batch=512, n_ubatch=512, n_threads=2, n_threads_batch=2, verbose=False)
    generator = np.random.default_rng(0)
    tokens = [int(token) for token in generator.integers(0, model.n_vocab(), room)]
    decode(model, [tokens[: args.prompt]])
    decode(model, [[token] for token in tokens[:8]])
    prompt = [args.prompt / decode(model, [tokens[: args.prompt]]) for _ in range(REPETITIONS)]
    ones = [[token] for token in tokens[: args.generate]]
    generate = [args.generate / decode(model, ones) for _ in range(REPETITIONS)]
    return {
        "prompt_tokens_per_second": statistics.median(prompt),
        "generate_tokens_per_second": statistics.median(generate),
        "prompt_rates": prompt,
        "generate_rates": generate,
        "system": llama_cpp.llama_print_system_info().decode(),
        "version": llama_cpp.__version__,
    }


def perplexity(args: argparse.Namespace) -> dict:
    """As llama-perplexity: windows of `ctx` tokens, predictions at positions ctx/2 to ctx - 2."""
    model = Llama(args.model, n_ctx=args.ctx, n_batch=args.ctx, n_threads=2, verbose=False, logits_all=True)
    begins = bool(llama_cpp.llama_vocab_get_add_bos(llama_cpp.llama_model_get_vocab(model._model.model)))
    tokens = model.tokenize(args.file.read_bytes(), add_bos=begins, special=False)
    nats, top, ids = 0.0, [], []
    for start in range(0, len(tokens) - args.ctx + 1, args.ctx):
        window = list(tokens[start : start + args.ctx])
        if begins:
            window[0] = model.token_bos()
        model.reset()
        model.eval(window)
        logits = np.array(model.scores[: args.ctx], dtype=np.float64)[args.ctx // 2 : -1]
        targets = window[args.ctx // 2 + 1 :]
        highest = logits.max(axis=1)
        total = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
        nats += float((total - logits[np.arange(len(targets)), targets]).sum())
        top += [int(token) for token in logits.argmax(axis=1)]
        ids += window
    return {"perplexity": float(np.exp(nats / len(top))), "tokens": len(top), "top": top, "ids": ids}


def greedy(args: argparse.Namespace) -> dict:
    """The likeliest continuation, token by token, and by how much each led the next likeliest."""
    model = Llama(args.model, n_ctx=1024, n_threads=2, verbose=False, logits_all=True)
    begins = bool(llama_cpp.llama_vocab_get_add_bos(llama_cpp.llama_model_get_vocab(model._model.model)))
    tokens = model.tokenize(args.prompt.encode(), add_bos=begins, special=True)
    model.eval(tokens)
    out, leads = [], []
    for _ in range(args.generate):
        logits = model.scores[model.n_tokens - 1]
        first, second = np.argsort(logits)[-2:][::-1]
        out.append(int(first))
        leads.append(float(logits[first] - logits[second]))
        model.eval([int(first)])
    return {"tokens": out, "leads": leads, "text": model.detokenize(out).decode(errors="replace")}


def main() -> None:
    """Runs one of the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("bench")
    one.add_argument("model")
    one.add_argument("-p", "--prompt", type=int, default=512)
    one.add_argument("-n", "--generate", type=int, default=128)
    one.add_argument("--parallel", type=int, default=1, help="sequences that generate together")
    one.set_defaults(run=bench)
    one = commands.add_parser("perplexity")
    one.add_argument("model")
    one.add_argument("file", type=Path)
    one.add_argument("--ctx", type=int, default=512)
    one.set_defaults(run=perplexity)
    one = commands.add_parser("greedy")
    one.add_argument("model")
    one.add_argument("prompt")
    one.add_argument("-n", "--generate", type=int, default=64)
    one.set_defaults(run=greedy)
    args = parser.parse_args()
    print(json.dumps(args.run(args)))


if __name__ == "__main__":
    main()
