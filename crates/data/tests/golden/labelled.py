"""Small Parquet files as Hugging Face datasets and pyarrow write them (datasets 5.2, pyarrow 26.0)."""

import datasets
import pyarrow.parquet

Value, ClassLabel, List = datasets.Value, datasets.ClassLabel, datasets.List
features = datasets.Features(
    text=Value("string"),
    label=ClassLabel(names=["neg", "pos"]),
    tokens=List(Value("string")),
    ner_tags=List(ClassLabel(names=["O", "B-LOC"])),
    score=Value("float32"),
    answers={"text": List(Value("string")), "answer_start": List(Value("int32"))},
)
rows = [
    dict(text="很多 good", label=1, tokens=["Paris", "!"], ner_tags=[1, 0], score=0.5,
         answers=dict(text=["多"], answer_start=[1])),
    dict(text="bad", label=-1, tokens=[], ner_tags=[], score=None, answers=dict(text=[], answer_start=[])),
]
table = datasets.Dataset.from_list(rows, features=features).with_format("arrow")[:]
for codec in ("snappy", "zstd", "gzip", "lz4", "brotli"):
    pyarrow.parquet.write_table(table, f"labelled-{codec}.parquet", compression=codec)
