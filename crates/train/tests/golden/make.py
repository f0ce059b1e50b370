"""Makes every golden file of this folder: `python make.py`.

What Hearth computes is compared with these numbers. They come from `transformers` and `torch` in
float32 on the CPU with eager attention, from fixed seeds; README.md lists each key. The key lists
in README.md, between its two markers, are rewritten here.
"""

import re
from pathlib import Path

import safetensors.torch
import torch
import transformers

import contrastive
import encoder
import heads
import lora
import masked
import models
import muon
import ops
import recurrent

FOLDER = Path(__file__).parent
BEGIN, END = "<!-- keys: begin -->\n", "<!-- keys: end -->\n"


def describe(path: Path) -> str:
    """A Markdown table of a file's tensors; `{0,1}` stands for the two blocks; float32 unless marked."""
    tensors = safetensors.torch.load_file(path)
    rows = []
    for name in sorted(tensors):
        first, second = (re.sub(r"\.[01]\.", f".{block}.", name, count=1) for block in (0, 1))
        both = first != second and first in tensors and second in tensors
        if not (both and name == second):
            label = first.replace(".0.", ".{0,1}.", 1) if both else name
            mark = "" if tensors[name].is_floating_point() else " int32"
            rows.append(f"| `{label}` | {list(tensors[name].shape)}{mark} |\n")
    title = path.relative_to(FOLDER).as_posix()
    return f"### {title}\n\n| key | shape |\n|---|---|\n{''.join(rows)}\n"


def update_readme(noise: str) -> None:
    """Rewrites the generated part of README.md: versions, rounding noise, keys."""
    readme = FOLDER / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    versions = f"Made with torch {torch.__version__}, transformers {transformers.__version__}.\n\n"
    keys = "".join(describe(path) for path in sorted(FOLDER.rglob("*.safetensors")) if path.name not in ("model.safetensors", "adapter_model.safetensors"))
    readme.write_text(f"{before}{BEGIN}\n{versions}{noise}\n{keys}{END}{after}")


def main() -> None:
    """Writes all the files, then the key lists."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    noise = "".join(models.write(name, FOLDER) for name in models.BUILDERS)
    models.write_masks(FOLDER)
    encoder.write(FOLDER / "bert")
    for task in heads.TASKS:
        heads.write(task, FOLDER / "heads" / task)
    for name in lora.ADAPTERS:
        lora.write(name, FOLDER / "lora" / name)
    for name in masked.BUILDERS:
        masked.write(name, FOLDER / "masked" / name)
    contrastive.write(FOLDER / "contrastive")
    muon.write(FOLDER / "muon.safetensors")
    ops.write(FOLDER / "ops.safetensors")
    recurrent.write(FOLDER / "recurrent.safetensors")
    update_readme("| file | quantity | rounding noise |\n|---|---|---|\n" + noise)


if __name__ == "__main__":
    main()
