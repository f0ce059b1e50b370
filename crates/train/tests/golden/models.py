"""Tiny random models: logits, loss, gradients, ten AdamW steps, greedy tokens, masked attention.

Letters: B sequences, T positions, V vocabulary entries. `targets[b, t]` is what `logits[b, t]` should
predict (the shift is already done); -1 is ignored.
"""

import copy
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

B, T, V = 2, 24, 97
STEPS = 10
PROMPT_TOKENS, GREEDY_TOKENS = 5, 16
COMMON = {"vocab_size": V, "bos_token_id": None, "eos_token_id": None, "attn_implementation": "eager"}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
SMALL = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    **COMMON,
}


def gpt2() -> PreTrainedModel:
    """GPT-2: learned positions, LayerNorm, tanh GELU, biases, tied head."""
    config = GPT2Config(
        n_layer=2, n_head=3, n_embd=48, n_positions=32, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **COMMON
    )
    return GPT2LMHeadModel(config)


def qwen3() -> PreTrainedModel:
    """Qwen3: RoPE, RMSNorm, QK-norm, SwiGLU, grouped queries, a head size apart from the width, tied head."""
    config = Qwen3Config(
        num_hidden_layers=2,
        hidden_size=48,
        intermediate_size=96,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=64,
        rope_parameters=ROPE,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        **COMMON,
    )
    return Qwen3ForCausalLM(config)


def llama() -> PreTrainedModel:
    """Llama: as Qwen3 without QK-norm, and with a head of its own."""
    config = LlamaConfig(
        rope_parameters=ROPE,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        **SMALL,
    )
    return LlamaForCausalLM(config)


def llama3() -> PreTrainedModel:
    """Llama 3: as Llama, with frequencies stretched from 32 positions by four."""
    scaling = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = LlamaConfig(
        rope_parameters={**scaling, "original_max_position_embeddings": 32, "rope_theta": 20.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        **SMALL,
    )
    return LlamaForCausalLM(config)


def mistral() -> PreTrainedModel:
    """Mistral: as Llama, with a window of 7 in every block, and all frequencies divided by 3."""
    config = MistralConfig(
        sliding_window=7,
        rope_parameters={"rope_type": "linear", "factor": 3.0, "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        **SMALL,
    )
    return MistralForCausalLM(config)


def qwen2() -> PreTrainedModel:
    """Qwen2: as Llama, with biases on queries, keys and values, and a tied head."""
    config = Qwen2Config(
        rope_parameters=ROPE,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        **SMALL,
    )
    return Qwen2ForCausalLM(config)


def gemma3() -> PreTrainedModel:
    """Gemma 3: scaled embeddings, norms on both sides of a block, GELU gates, a window of 7 in the first block
    with a rotary base of its own, scores scaled by 24 instead of the head size."""
    config = Gemma3TextConfig(
        head_dim=16,
        sliding_window=7,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            "sliding_attention": ROPE,
        },
        query_pre_attn_scalar=24,
        rms_norm_eps=1e-6,
        pad_token_id=None,
        **SMALL,
    )
    return Gemma3ForCausalLM(config)


BUILDERS = {"gpt2": gpt2, "qwen3": qwen3, "llama": llama, "llama3": llama3, "mistral": mistral, "qwen2": qwen2, "gemma3": gemma3}


def build(name: str) -> PreTrainedModel:
    """A model with weights large enough that a wrong sign or a missing term anywhere shows in the logits.

    Matrices N(0, 0.2), biases N(0, 0.1), norm gains N(1, 0.1), which Gemma stores less one.
    """
    model = BUILDERS[name]().float().eval()
    generator = torch.Generator().manual_seed(1234)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() >= 2:
                parameter.copy_(0.2 * noise)
            elif parameter_name.endswith("bias") or name == "gemma3":
                parameter.copy_(0.1 * noise)
            else:
                parameter.copy_(1 + 0.1 * noise)
    return model


def batch() -> tuple[Tensor, Tensor]:
    """Input ids and targets `[B, T]`; five targets are ignored, at the start, inside and at the end."""
    ids = torch.randint(V, (B, T + 1), generator=torch.Generator().manual_seed(5678))
    inputs, targets = ids[:, :-1].clone(), ids[:, 1:].clone()
    targets[0, 0] = targets[0, 7] = targets[0, 8] = targets[1, 11] = targets[1, -1] = -1
    return inputs, targets


def loss_of(model: PreTrainedModel, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits `[B, T, V]` and the mean cross-entropy over targets that are not ignored."""
    logits = model(input_ids=inputs, use_cache=False).logits
    return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


def adamw_steps(model: PreTrainedModel, inputs: Tensor, targets: Tensor) -> tuple[list[float], list[float]]:
    """Ten AdamW steps on one batch; losses (before each step) and gradient norms (before clipping)."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        _, loss = loss_of(model, inputs, targets)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, 1.0).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, norms


def greedy(model: PreTrainedModel, prompt: Tensor) -> Tensor | None:
    """The tokens that follow `prompt` `[P]`, each the most likely; none where rounding could turn a choice."""
    ids = prompt[None]
    for _ in range(GREEDY_TOKENS):
        with torch.no_grad():
            best = model(input_ids=ids, use_cache=False).logits[0, -1].topk(2)
        if best.values[0] - best.values[1] <= 1e-2:
            return None
        ids = torch.cat([ids, best.indices[None, :1]], dim=1)
    return ids[0, len(prompt) :]


def measure(model: PreTrainedModel) -> dict[str, Tensor]:
    """Everything `golden.safetensors` holds, in the model's own precision."""
    inputs, targets = batch()
    prompts = [row[start : start + PROMPT_TOKENS] for row in inputs for start in range(3, T - PROMPT_TOKENS)]
    prompt, tokens = next((p, tokens) for p in prompts if (tokens := greedy(model, p)) is not None)
    values = {"input_ids": inputs, "targets": targets, "greedy_prompt": prompt, "greedy": tokens}
    logits, loss = loss_of(model, inputs, targets)
    loss.backward()
    values |= {"logits": logits.detach(), "loss": loss.detach()}
    values |= {f"grad.{name}": p.grad.clone() for name, p in model.named_parameters()}
    losses, norms = adamw_steps(model, inputs, targets)
    values |= {"adamw.losses": torch.tensor(losses), "adamw.grad_norms": torch.tensor(norms)}
    values |= {f"adamw.{name}": p.detach().clone() for name, p in model.named_parameters()}
    return values


def noise_rows(name: str, single: dict[str, Tensor], double: dict[str, Tensor]) -> str:
    """Markdown rows: the greatest difference between float32 and float64, by kind of value."""
    kinds: dict[str, float] = {}
    for key, value in single.items():
        if value.is_floating_point():
            kind = key if key in ("logits", "loss", "adamw.losses", "adamw.grad_norms") else key.split(".")[0] + ".*"
            if key.startswith("adamw.") and key.endswith("c_attn.bias"):
                kind = "adamw.….c_attn.bias"
            kinds[kind] = max(kinds.get(kind, 0.0), (value - double[key]).abs().max().item())
    return "".join(f"| {name} | `{kind}` | {difference:.1e} |\n" for kind, difference in kinds.items())


def stored(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """What goes to disk: int32 ids; of the final matrices only embeddings, head and first attention, to stay small."""
    kept = {}
    for key, value in values.items():
        matrix_in_block = key.startswith("adamw.") and value.dim() >= 2 and (".h." in key or ".layers." in key)
        if not matrix_in_block or ".0.attn." in key or ".0.self_attn." in key:
            kept[key] = value.contiguous() if value.is_floating_point() else value.int()
    return kept


def write(name: str, folder: Path) -> str:
    """Saves the model folder and its `golden.safetensors`; returns rows on float32 rounding noise."""
    model = build(name)
    model.save_pretrained(folder / name)
    double = measure(copy.deepcopy(model).double())
    single = measure(model)
    safetensors.torch.save_file(stored(single), folder / name / "golden.safetensors")
    return noise_rows(name, single, double)


def write_masks(folder: Path) -> None:
    """The qwen3 model with padded rows, and with packed documents; `masks/golden.safetensors`."""
    model = build("qwen3")
    inputs, _ = batch()
    padding = torch.ones(B, T, dtype=torch.long)
    padding[0, :5] = 0
    padding[1, -7:] = 0
    positions = (padding.cumsum(dim=1) - 1).clamp(min=0)
    documents = torch.zeros(B, T, dtype=torch.long)
    documents[0, 9:] += 1
    documents[0, 10:] += 1
    documents[1, 13:] += 1
    starts = documents.new_zeros(B, T)
    starts[0, 9:], starts[0, 10:], starts[1, 13:] = 9, 10, 13
    restarting = torch.arange(T) - starts
    same = documents[:, None, :, None] == documents[:, None, None, :]
    visible = same & torch.ones(T, T, dtype=torch.bool).tril()
    additive = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
    with torch.no_grad():
        padded = model(input_ids=inputs, attention_mask=padding, position_ids=positions, use_cache=False).logits
        packed = model(input_ids=inputs, attention_mask=additive, position_ids=restarting, use_cache=False).logits
        alone = model(input_ids=inputs[1:, 13:], use_cache=False).logits
    assert torch.allclose(packed[1, 13:], alone[0], atol=1e-4), "a packed document sees its neighbour"
    values = {
        "input_ids": inputs,
        "padding.attention_mask": padding,
        "padding.position_ids": positions,
        "padding.logits": padded * padding[..., None],
        "packed.document_ids": documents,
        "packed.position_ids": restarting,
        "packed.logits": packed,
    }
    (folder / "masks").mkdir(exist_ok=True)
    safetensors.torch.save_file(stored(values), folder / "masks" / "golden.safetensors")
