"""Makes windows.json: windows of questions on passages, as the fast tokenizer of transformers cuts them.

    pip install transformers==5.24.0
    python windows.py

The vocabulary is small and made up; it lower-cases and drops accents. Offsets count characters of the passage.
"""

import json
import tempfile
from pathlib import Path

from transformers import BertTokenizerFast

WORDS = """[PAD] [UNK] [CLS] [SEP] [MASK] the a cat dog sat ran on after mat hat red who what where did is in of . , ? ! - ' ( )
##s ##ning ##t c ca ##fe cafe nai ##ve uber istanbul stra ##ße 1 2 ##4 ##1 北 京 是 中 国 的 首 都 。 ， 谁 哪 里 가 ##나""".split()
# The decomposed spellings that normalisation makes of Hangul.
WORDS += ["\u1100\u1161", "##\u1102\u1161"]

LONG = "The cat sat on the mat, and after the cat the dogs ran. " * 3
CASES = [
    ("Who sat?", "The cat sat on the mat.", 32, 8),
    ("Who ran after the cat?", LONG, 24, 6),
    ("Who ran after the cat?", LONG, 20, 0),
    ("Where?", "Cafés, naïve ÜBER-cats ran;\tthe\u00a0DOGS\u200bran in İSTANBUL's Straße (1241).", 16, 4),
    ("Where?", "cafe\u0301s e\u0301 \u0301 the ﬁsh 👩\u200d👩\u200d👧 cat \ufffd\0dogs", 16, 4),
    ("北京是哪里？", "北京是中国的首都。The 中国 cats，谁 is in 北京？", 18, 4),
    ("가나?", "가나 \u1100\u1161나 the 가나다 cat", 14, 3),
    ("who is [SEP]?", "the [CLS] cat [SEP] sat on the mat", 20, 4),
    ("Who?", " \n ", 12, 2),
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        vocab = Path(folder) / "vocab.txt"
        vocab.write_text("\n".join(dict.fromkeys(WORDS)) + "\n", encoding="utf-8")
        tokenizer = BertTokenizerFast(vocab=str(vocab), do_lower_case=True)
    cases = []
    for question, passage, limit, stride in CASES:
        encoded = tokenizer(
            question,
            passage,
            truncation="only_second",
            max_length=limit,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            # Of the text, nothing is a special token: a passage must not be able to end itself.
            split_special_tokens=True,
        )
        windows = []
        for window, ids in enumerate(encoded["input_ids"]):
            rows = [row for row, sequence in enumerate(encoded.sequence_ids(window)) if sequence == 1]
            windows.append(
                {
                    "ids": ids,
                    "types": encoded["token_type_ids"][window],
                    "first_row": rows[0] if rows else len(ids) - 1,
                    "offsets": [encoded["offset_mapping"][window][row] for row in rows],
                }
            )
        cases.append({"question": question, "passage": passage, "limit": limit, "stride": stride, "windows": windows})
    tokenizer.backend_tokenizer.no_truncation()
    out = {"tokenizer": json.loads(tokenizer.backend_tokenizer.to_str()), "cases": cases}
    path = Path(__file__).with_name("windows.json")
    path.write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
