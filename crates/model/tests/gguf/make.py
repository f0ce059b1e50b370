"""Makes python.gguf, a file of the `gguf` package (0.19.0) that Hearth must read: `python make.py`.

Metadata of every type, an alignment of its own, and tensors whose bytes follow from their place:
byte i of tensor t is 7 i + t, modulo 256.
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter

writer = GGUFWriter(Path(__file__).with_name("python.gguf"), "llama")
writer.add_custom_alignment(64)
writer.add_uint8("u8", 200)
writer.add_int8("i8", -3)
writer.add_uint16("u16", 60_000)
writer.add_int16("i16", -300)
writer.add_int32("i32", -70_000)
writer.add_uint64("u64", 2**64 - 1)
writer.add_int64("i64", -(2**63))
writer.add_float32("f32", 1.5)
writer.add_float64("f64", 0.1)
writer.add_bool("bool", True)
writer.add_string("text", "詩 poem")
writer.add_array("tokens", ["a", "Ġb", "ü"])
writer.add_array("pieces", [b"\xff", b"ok"])
writer.add_array("scores", [0.5, -1000.0])
writer.add_array("kinds", [1, -1, 3])

# Name, shape (rows before columns, as NumPy has it), type, bytes of a row.
TENSORS = [
    ("token_embd.weight", (3, 256), Type.Q4_K, 144),
    ("output_norm.weight", (5,), Type.F32, 20),
    ("blk.0.attn_q.weight", (2, 64), Type.Q8_0, 68),
    ("half", (2, 3, 4), Type.F16, 8),
    ("brain", (7, 1), Type.BF16, 2),
]
for t, (name, shape, kind, row_bytes) in enumerate(TENSORS):
    byte_shape = (*shape[:-1], row_bytes)
    data = ((7 * np.arange(np.prod(byte_shape)) + t) % 256).astype(np.uint8).reshape(byte_shape)
    if kind == Type.F32:
        writer.add_tensor(name, data.view(np.float32))
    elif kind == Type.F16:
        writer.add_tensor(name, data.view(np.float16))
    else:
        writer.add_tensor(name, data, raw_dtype=kind)

writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
