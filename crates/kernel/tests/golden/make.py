"""Makes quant.safetensors, what the Python package `gguf` does with blocks, for the tests to compare with.

`python make.py` remakes it (packages: bench/requirements.txt). `<format>.blocks` are bytes, `<format>.values`
what they stand for. `x` are rows, and `<format>.rounded` the bytes they are rounded to, for the formats that
the package can write.
"""

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

# Where a block keeps its half-precision numbers.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}  # fmt: skip
WRITTEN = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]

rng = np.random.default_rng(11)
tensors = {}


def random_blocks(name):
    length, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    count = 3 if length == 256 else 6
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in HALVES[name]:
        steps = rng.uniform(-0.1, 0.1, count).astype(np.float16)
        blocks[:, at : at + 2] = steps.view(np.uint8).reshape(count, 2)
    return blocks


def rows():
    x = rng.standard_normal((12, 64)).astype(np.float32)
    x *= np.float32(10) ** np.arange(-5, 7, dtype=np.float32).reshape(12, 1) * np.float32(0.01)
    x[3, 17] = 500  # an outlier
    x[4] = 0
    x[5] = np.arange(-32, 32) / 4  # ties
    x[6] = 1.25  # all equal
    x[7] = np.abs(x[7])
    return x


for name in HALVES:
    blocks = random_blocks(name)
    tensors[f"{name}.blocks"] = blocks.reshape(-1)
    tensors[f"{name}.values"] = dequantize(blocks.reshape(1, -1), GGMLQuantizationType[name]).reshape(-1)

tensors["x"] = rows()
for name in WRITTEN:
    kind = GGMLQuantizationType[name]
    rounded = quantize(tensors["x"], kind)
    tensors[f"{name}.rounded"] = np.ascontiguousarray(rounded).view(np.uint8).reshape(-1)
    if name in ("F16", "BF16"):
        tensors[f"{name}.blocks"] = tensors[f"{name}.rounded"]
        tensors[f"{name}.values"] = dequantize(rounded, kind).astype(np.float32).reshape(-1)

save_file(tensors, Path(__file__).with_name("quant.safetensors"))
