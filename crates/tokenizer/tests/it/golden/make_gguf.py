"""Makes gguf.json: small vocabularies, and the ids that llama.cpp gives for texts under each.

    pip install tokenizers==0.22.2 sentencepiece==0.2.3 gguf==0.19.0 llama-cpp-py-sync==0.11739
    npm pack @node-llama-cpp/linux-x64@3.22.1   # llama.cpp v0.5.0, of which the binding has the headers
    LLAMA_CPP=.../bins/linux-x64 python make_gguf.py

Where llama.cpp rewrote a pre-tokenizer's expression for its regex engine and the two differ (`PUBLISHED`
below), and for WordPiece, where it leaves marks out that BERT keeps, the ids are the Hugging Face library's.
Unigram is left out where the libraries differ on purpose: texts that spell `▁` or special tokens, or are blank.
"""
import ctypes, glob, json, os, tempfile
import sentencepiece, tokenizers
from gguf import GGUFWriter
from llama_cpp_py_sync import _cffi_bindings as binding

TEXTS = [
    "", " ", "a", "Hello, world!", " The cat's hat wasn't THEIR'S; I'LL say they've 3 cats.",
    "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。", "日本語のテキスト、カタカナ。 한국어 문장입니다.",
    "fn main() {\n    let x: u32 = 0x1F + 1_000;\n\tprintln!(\"{x}\");\r\n}\n\n\n",
    "🎉🎉 party 👩‍👩‍👧 naïve café e\u0301le\u0300ve Ⅷ ½ ２０２４", "a  b   c    d     e\t\tf \n g\r\n\r\nh  ",
    "1 12 123 1234 12345 1234567890 3.14159 2024-11-25", "¿Qué? «Ça va» — “yes”… #tag @me $5+~^|`<=>",
    "สวัสดีครับ नमस्ते दुनिया مرحبا بالعالم ١٢٣ שלום", "<|endoftext|> <s> </s> [CLS] <tool>x</tool> <0x41>",
    "CamelCaseWord snake_case kebab-case HTTPServer iPhone", "\u0000\u0001\u007f\u00a0\u200b\ufeff\ufffd\U0001fae0",
    "▁▁literal ▁ marks", "Iſ it's 'S 'ſ? ŒUVRE ǅ", "                                        deep",
]
NAMES = """default gpt-2 llama-bpe dbrx qwen2 qwen35 smollm deepseek-llm deepseek-coder deepseek-v3 spark2_5 falcon
    gpt-4o tekken bloom viking jais-2 bailingmoe seed-coder exaone-moe ufakzeka laguna tiny_aya minicpm5
    chameleon""".split()
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
O200K = (rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         rf"|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = O200K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", "")
PUBLISHED = {"gpt-4o": [O200K], "tekken": [TEKKEN], "tiny_aya": [r"\d{1,3}(?=(?:\d{3})*\b)", O200K]}
LINES = [text for text in TEXTS if text.strip()] * 2


ffi, folder = binding.ffi, os.environ["LLAMA_CPP"]
load = lambda name: ffi.dlopen(glob.glob(os.path.join(folder, name))[0], ffi.RTLD_GLOBAL | ffi.RTLD_NOW)
load("libggml-base.so*"), (ggml := load("libggml.*so*")), (lib := load("libllama.*so*"))
ctypes.CDLL(glob.glob(os.path.join(folder, "libggml.*so*"))[0]).ggml_backend_load_all_from_path(folder.encode())
silent = ffi.callback("ggml_log_callback", lambda level, text, data: None)


def vocab_ids(path, texts):
    """What llama.cpp makes of the texts; special tokens that they spell out stay text."""
    lib.llama_log_set(silent, ffi.NULL)
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(path.encode(), params)
    assert model != ffi.NULL, path
    vocab = lib.llama_model_get_vocab(model)
    out = []
    for text in texts:
        data = text.encode()
        tokens = ffi.new("llama_token[]", 4 * len(data) + 16)
        count = lib.llama_tokenize(vocab, data, len(data), tokens, len(tokens), False, False)
        assert count >= 0, (path, text)
        out.append([tokens[i] for i in range(count)])
    lib.llama_model_free(model)
    return out


def gguf_file(folder, vocab, pre):
    path = os.path.join(folder, "vocab.gguf")
    writer = GGUFWriter(path, "llama")
    writer.add_vocab_size(len(vocab["tokens"]))
    for add, value in [(writer.add_context_length, 64), (writer.add_embedding_length, 64), (writer.add_block_count, 1),
                       (writer.add_feed_forward_length, 64), (writer.add_head_count, 1),
                       (writer.add_layer_norm_rms_eps, 1e-5), (writer.add_rope_dimension_count, 64)]:
        add(value)
    writer.add_tokenizer_model(vocab["model"])
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(vocab["tokens"])
    writer.add_token_types(vocab["token_types"])
    if "scores" in vocab:
        writer.add_token_scores(vocab["scores"])
    if "merges" in vocab:
        writer.add_token_merges(vocab["merges"])
    if "precompiled_charsmap" in vocab:
        writer.add_precompiled_charsmap(bytes(vocab["precompiled_charsmap"]))
    for key in ["add_space_prefix", "remove_extra_whitespaces"]:
        if key in vocab:
            getattr(writer, f"add_{key}")(vocab[key])
    for key in ["bos", "eos", "unk", "pad"]:
        if key in vocab:
            getattr(writer, f"add_{key}_token_id")(vocab[key])
    if vocab["model"] == "bert":
        writer.add_sep_token_id(vocab["eos"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def bpe():
    """Merges across any boundary, so that every cut shows."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.train_from_iterator(LINES, tokenizers.trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    file = json.loads(model.to_str())["model"]
    tokens = sorted(file["vocab"], key=file["vocab"].get)
    types = [1] * len(tokens) + [3, 3, 4]
    tokens += ["<|endoftext|>", "<|im_start|>", "<tool>"]
    return dict(model="gpt2", tokens=tokens, token_types=types, merges=[" ".join(m) for m in file["merges"]],
                bos=len(tokens) - 3, eos=len(tokens) - 3)


def spm(folder, **options):
    """A SentencePiece model as llama.cpp's converter writes it."""
    given = os.path.join(folder, "lines.txt")
    open(given, "w").write("\n".join(line for text in LINES for line in text.splitlines() if "\0" not in line))
    out = os.path.join(folder, "m")
    sentencepiece.SentencePieceTrainer.train(input=given, model_prefix=out, minloglevel=2, hard_vocab_limit=False,
                                             **options)
    sp = sentencepiece.SentencePieceProcessor(model_file=out + ".model")
    vocab = dict(model="llama", tokens=[], scores=[], token_types=[])
    for i in range(sp.get_piece_size()):
        piece = sp.id_to_piece(i)
        type = (2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 5 if sp.is_unused(i) else 6 if sp.is_byte(i)
                else 4 if piece in options.get("user_defined_symbols", []) else 1)
        vocab["tokens"].append(piece.replace("▁", " ") if type == 4 else piece)
        vocab["scores"].append(sp.get_score(i))
        vocab["token_types"].append(type)
    from sentencepiece import sentencepiece_model_pb2
    proto = sentencepiece_model_pb2.ModelProto.FromString(open(out + ".model", "rb").read())
    for role in ["bos", "eos", "unk", "pad"]:
        if getattr(sp, role + "_id")() >= 0:
            vocab[role] = getattr(sp, role + "_id")()
    return vocab, proto


def word_piece():
    model = tokenizers.BertWordPieceTokenizer(lowercase=True)
    model.train_from_iterator(LINES, vocab_size=420, min_frequency=1, show_progress=False, limit_alphabet=220)
    spelled = sorted(model.get_vocab(), key=model.get_vocab().get)
    bracketed = lambda token: token[0] == "[" and token[-1] == "]"
    tokens = [t if bracketed(t) else t[2:] if t.startswith("##") else "▁" + t for t in spelled]
    types = [3 if bracketed(t) else 1 for t in spelled]
    model._tokenizer.encode_special_tokens = True
    ids = [model.encode(text, add_special_tokens=False).ids for text in TEXTS]
    return ids, dict(model="bert", tokens=tokens, token_types=types, **{role: spelled.index(t) for role, t in [
        ("bos", "[CLS]"), ("eos", "[SEP]"), ("unk", "[UNK]"), ("pad", "[PAD]")]})


def published_ids(vocab, regexes, ignore_merges):
    merges = [tuple(m.split(" ")) for m in vocab["merges"]]
    model = tokenizers.Tokenizer(tokenizers.models.BPE(
        {t: i for i, t in enumerate(vocab["tokens"])}, merges, ignore_merges=ignore_merges))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        *(tokenizers.pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in regexes),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    model.add_tokens([tokenizers.AddedToken("<tool>", normalized=False)])
    return [model.encode(text, add_special_tokens=False).ids for text in TEXTS]


def main():
    with tempfile.TemporaryDirectory() as folder:
        rules = os.path.join(folder, "rules.tsv")
        open(rules, "w").write("9\t20\nA\t20\nD\t20\nA0\t20\nFF12\t32\nFF10\t30\n2026\t2E 2E 2E\n")
        common = dict(vocab_size=600, byte_fallback=True, model_type="bpe", normalization_rule_name="identity",
                      remove_extra_whitespaces=False, control_symbols=["<|turn|>"])
        gemma, _ = spm(folder, user_defined_symbols=["<tool>", "▁▁", "▁▁▁", "▁▁▁▁", "\t\t"], **common)
        llama, _ = spm(folder, **common)
        unigram, proto = spm(folder, vocab_size=330, model_type="unigram", normalization_rule_tsv=rules,
                             user_defined_symbols=["<tool>"], pad_id=3)
        unigram |= dict(model="t5", precompiled_charsmap=list(proto.normalizer_spec.precompiled_charsmap),
                        add_space_prefix=True, remove_extra_whitespaces=True)
        plain = {k: v for k, v in unigram.items() if k != "precompiled_charsmap"}
        word_piece_ids, word_pieces = word_piece()
        vocabs = dict(bpe=bpe(), spm=gemma | dict(add_space_prefix=False), spm_prefix=llama, unigram=unigram,
                      unigram_spaces=plain | dict(remove_extra_whitespaces=False), wordpiece=word_pieces)
        cases = []
        for name, vocab in vocabs.items():
            for pre in NAMES if name == "bpe" else [None]:
                if pre in PUBLISHED:
                    ids = published_ids(vocab, PUBLISHED[pre], pre == "tekken")
                elif name == "wordpiece":
                    ids = word_piece_ids
                else:
                    ids = vocab_ids(gguf_file(folder, vocab, pre), TEXTS)
                if vocab["model"] == "t5":
                    ids = [None if "▁" in t or "</s>" in t or t == " " else i for t, i in zip(TEXTS, ids)]
                cases.append(dict(vocab=name, pre=pre, ids=ids))
    lines = ",\n  ".join(json.dumps(case, separators=(",", ":")) for case in cases)
    texts, vocabs = (json.dumps(x, ensure_ascii=True) for x in (TEXTS, vocabs))
    open("gguf.json", "w").write(f'{{"texts": {texts},\n "vocabs": {vocabs},\n "cases": [\n  {lines}]}}\n')


if __name__ == "__main__":
    main()
