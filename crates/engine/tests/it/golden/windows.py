"""Makes windows.json: windows of questions on passages, as the fast tokenizer of transformers cuts them.

    pip install transformers==5.24.0
    python windows.py

One has a small vocabulary of word pieces, made up, and lower-cases and drops accents; one has byte-level BPE, trained on
the passages. Offsets count characters of the passage.
"""

import json
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

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


BYTE_CASES = [(question, passage, 40, 8) for question, passage, _, _ in CASES] + [
    ("Who?", "  the   cat\n\n sat  ", 12, 2),
    ("[SEP]?", "naïve 👩\u200d👩\u200d👧 北\u3000京", 40, 2),
]


def word_pieces() -> PreTrainedTokenizerFast:
    with tempfile.TemporaryDirectory() as folder:
        vocab = Path(folder) / "vocab.txt"
        vocab.write_text("\n".join(dict.fromkeys(WORDS)) + "\n", encoding="utf-8")
        return BertTokenizerFast(vocab=str(vocab), do_lower_case=True)


def bytes_in_pairs() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["[CLS]", "[SEP]", "[PAD]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([passage for _, passage, _, _ in CASES], trainer)
    around = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 0), ("[SEP]", 1)],
    )
    trimmed = processors.ByteLevel(add_prefix_space=False, trim_offsets=True)
    tokenizer.post_processor = processors.Sequence([trimmed, around])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]")


def windows_of(tokenizer: PreTrainedTokenizerFast, question: str, passage: str, limit: int, stride: int) -> list[dict]:
    encoded = tokenizer(
        question,
        passage,
        truncation="only_second",
        max_length=limit,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
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
    return windows


def golden(tokenizer: PreTrainedTokenizerFast, cases: list[tuple]) -> dict:
    out = [
        {"question": question, "passage": passage, "limit": limit, "stride": stride}
        | {"windows": windows_of(tokenizer, question, passage, limit, stride)}
        for question, passage, limit, stride in cases
    ]
    tokenizer.backend_tokenizer.no_truncation()
    return {"tokenizer": json.loads(tokenizer.backend_tokenizer.to_str()), "cases": out}


def main() -> None:
    out = {"word_pieces": golden(word_pieces(), CASES), "bytes": golden(bytes_in_pairs(), BYTE_CASES)}
    path = Path(__file__).with_name("windows.json")
    path.write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
