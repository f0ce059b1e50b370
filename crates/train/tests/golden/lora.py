"""Updates of low rank by PEFT over the tiny models here: the adapter as PEFT writes it, with the loss, the gradients and
the logits that it gives; `lora/NAME/`.
"""

from pathlib import Path

import safetensors.torch
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BertForSequenceClassification

HERE = Path(__file__).parent

ADAPTERS = {
    # A layer of each size, scaled by alpha / √r.
    "llama": (HERE / "llama", {"target_modules": ["q_proj", "v_proj", "down_proj"], "use_rslora": True}),
    # Weights stored [in, out], an activation behind one of the layers.
    "gpt2": (HERE / "gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    # A head that is trained whole.
    "single": (
        HERE / "heads" / "single",
        {"target_modules": ["query", "dense"], "modules_to_save": ["classifier"], "task_type": "SEQ_CLS"},
    ),
}


def write(name: str, folder: Path) -> None:
    """The adapter of a model and its numbers."""
    base, settings = ADAPTERS[name]
    heads = name == "single"
    kind = BertForSequenceClassification if heads else AutoModelForCausalLM
    model = kind.from_pretrained(base, attn_implementation="eager")
    model = get_peft_model(model, LoraConfig(r=3, lora_alpha=5, lora_dropout=0.0, **settings))
    generator = torch.Generator().manual_seed(97)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    ids = torch.randint(model.config.vocab_size, (2, 7), generator=generator)
    labels = torch.tensor([2, 0]) if heads else ids.masked_fill(torch.rand(2, 7, generator=generator) < 0.4, -100)
    output = model(input_ids=ids, labels=labels)
    output.loss.backward()
    values = {"input_ids": ids.flatten().int(), "labels": labels.flatten().int(), "loss": output.loss.reshape(1)}
    values["logits"] = output.logits
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            bare = key.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")
            values[f"grad.{bare}"] = parameter.grad
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    # The path of this machine says nothing elsewhere.
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace(str(base), f"tests/golden/{base.relative_to(HERE)}"))
    stored = {key: value.detach().contiguous() for key, value in values.items()}
    safetensors.torch.save_file(stored, folder / "golden.safetensors")
