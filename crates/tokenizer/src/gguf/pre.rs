//! The pre-tokenizers that llama.cpp knows by name (`tokenizer.ggml.pre`).
//!
//! Source: the table in llama.cpp's `llama-vocab.cpp`. Where it rewrote a model's own expression for
//! a weaker regex engine (`(?i:'s)` as `'[sS]`, `\p{Lu}` by look-ahead), the model's own stands
//! here, as the table quotes it. Several expressions cut one after the other: each cuts what the
//! ones before left whole, and what it doesn't match stays in one piece.

use serde_json::{Value, json};

use crate::pretokenize::PreTokenizer;

/// One cut of the text into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Each match is a word.
    Match(&'static str),
    /// Each digit is a word.
    Digits,
    /// GPT-2's words.
    Gpt2,
}

impl Cut {
    fn regex(self) -> &'static str {
        match self {
            Match(regex) => regex,
            Digits => DIGIT,
            Gpt2 => PreTokenizer::Gpt2.regex(),
        }
    }
}

/// Names that mean the same cuts.
#[derive(Debug)]
pub(super) struct Named {
    /// The first is the one that exports get.
    pub(super) names: &'static [&'static str],
    pub(super) cuts: &'static [Cut],
    /// Whether a word that is a token is taken whole without merging.
    pub(super) ignore_merges: bool,
    /// Whether a text begins with `bos` where the file doesn't say.
    pub(super) add_bos: bool,
}

impl Named {
    /// The `pre_tokenizer` of a `tokenizer.json`.
    pub(super) fn to_json(&self) -> Value {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let (last, before) = match self.cuts {
            [Gpt2] => return byte_level(true),
            [before @ .., Gpt2] => (byte_level(true), before),
            all => (byte_level(false), all),
        };
        let member = |cut: &Cut| match cut {
            Digits => json!({"type": "Digits", "individual_digits": true}),
            cut => json!({
                "type": "Split", "pattern": {"Regex": cut.regex()}, "behavior": "Isolated", "invert": false,
            }),
        };
        let members: Vec<Value> = before.iter().map(member).chain([last]).collect();
        json!({"type": "Sequence", "pretokenizers": members})
    }
}

const fn named(names: &'static [&'static str], cuts: &'static [Cut]) -> Named {
    Named { names, cuts, ignore_merges: false, add_bos: false }
}

const fn whole_words(names: &'static [&'static str], cuts: &'static [Cut], add_bos: bool) -> Named {
    Named { names, cuts, ignore_merges: true, add_bos }
}

use Cut::{Digits, Gpt2, Match};

const DIGIT: &str = r"\p{N}";
const LLAMA3: &str = PreTokenizer::LlamaBpe.regex();
const QWEN2: &str = PreTokenizer::Qwen2.regex();
/// As [`QWEN2`], with marks beside letters.
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As [`LLAMA3`], with numbers whole.
const NUMBERS_WHOLE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As [`LLAMA3`], with spaces in powers of two.
const JAIS2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const UFAKZEKA: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LINES: &str = r"[^\n]+|[\n]+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const THREE_DIGITS: &str = "[0-9][0-9][0-9]";
const UP_TO_THREE_DIGITS: &str = r"\p{N}{1,3}";
/// The groups of three that a number is read in.
const THOUSANDS: &str = r"\d{1,3}(?=(?:\d{3})*\b)";
const DEFAULT_PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";
const FALCON_PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]+";
const LINE_ENDS: &str = "[\r\n]";
/// Letters that have case, by their code points, since several look like others.
const DEEPSEEK_LETTERS: &str = "\
    \\s?[A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\u{2AF}\
    \u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\u{3A1}\
    \u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\u{13F5}\
    \u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}\
    \u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}\
    \u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\
    \u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\
    \u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}\
    \u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\
    \u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}\
    \u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\
    \u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\
    \u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+";
const DEEPSEEK_PUNCTUATION: &str = r"\s?[!-/:-~！-／：-～‘-‟　-。]+";
const DEEPSEEK_EAST: &str = "[一-龥ࠀ-一가-퟿]+";
const DEEPSEEK3_EAST: &str = "[一-龥぀-ゟ゠-ヿ]+";
/// The line ends in it are characters, as in the published file, by which the pipeline knows it.
const DEEPSEEK3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"##,
    "\r\n",
    r##"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+["##,
    "\r\n",
    r##"]*|\s*["##,
    "\r\n",
    r##"]+|\s+(?!\S)|\s+"##,
);
const SPARK: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"##,
    "\r\n",
    r##"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|["##,
    "\r\n",
    r##"]|\s+(?!\S)|\s+"##,
);

/// llama.cpp's table. Left out: `kimi-k2`, `afmoe`, `superbpe`, `youtu` and the multilingual Granite
/// embeddings, whose cuts are code of its own or can't be checked against a published file; `gemma4`
/// and its kin, which merge characters instead of bytes.
pub(super) static TABLE: [Named; 25] = [
    named(&["default"], &[Match(DEFAULT_PUNCTUATION), Gpt2, Match(r"\p{N}+"), Match(THREE_DIGITS)]),
    named(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "roberta-bpe",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
        ],
        &[Gpt2],
    ),
    whole_words(
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        &[Match(LLAMA3)],
        true,
    ),
    named(&["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"], &[Match(LLAMA3)]),
    named(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "megrez",
            "kormo",
            "f2llmv2",
            "grok-2",
        ],
        &[Match(QWEN2)],
    ),
    named(&["qwen35"], &[Match(QWEN35)]),
    named(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[Digits, Gpt2],
    ),
    named(
        &["deepseek-llm"],
        &[
            Match(LINE_ENDS),
            Match(DEEPSEEK_LETTERS),
            Match(DEEPSEEK_PUNCTUATION),
            Match(r"\s+$"),
            Match(DEEPSEEK_EAST),
            Match(r"\p{N}+"),
        ],
    ),
    named(
        &["deepseek-coder"],
        &[Match(LINE_ENDS), Match(r"\s?\p{L}+"), Match(r"\s?\p{P}+"), Match(DEEPSEEK_EAST), Digits],
    ),
    named(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        &[Match(UP_TO_THREE_DIGITS), Match(DEEPSEEK3_EAST), Match(DEEPSEEK3)],
    ),
    named(&["spark2_5"], &[Match(UP_TO_THREE_DIGITS), Match(DEEPSEEK3_EAST), Match(SPARK), Digits]),
    named(&["falcon"], &[Match(FALCON_PUNCTUATION), Gpt2, Match(THREE_DIGITS)]),
    named(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[Match(O200K)]),
    whole_words(&["tekken"], &[Match(TEKKEN)], true),
    named(&["bloom", "poro-chat", "gpt3-finnish"], &[Match(BLOOM)]),
    named(&["viking"], &[Match(BLOOM), Digits]),
    named(&["jais-2"], &[Match(JAIS2)]),
    named(&["bailingmoe", "bailingmoe2", "llada-moe"], &[Match(BAILING)]),
    named(&["seed-coder"], &[Match(SEED_CODER)]),
    named(&["exaone-moe"], &[Match(EXAONE_MOE)]),
    named(&["ufakzeka"], &[Match(UFAKZEKA)]),
    named(&["laguna"], &[Match(LINES), Match(QWEN2)]),
    named(&["tiny_aya", "cohere2moe"], &[Match(THOUSANDS), Match(O200K)]),
    whole_words(&["minicpm5"], &[Match(UP_TO_THREE_DIGITS), Match(NUMBERS_WHOLE)], false),
    Named {
        names: &["chameleon"],
        cuts: &[
            Match("<sentinel:[0-9]+>"),
            Match("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
            Match(r"([\t\n]|    |  )"),
            Digits,
            Match(r"[\p{P}!-/:-@\[-`{-~]"),
            Gpt2,
        ],
        ignore_merges: false,
        add_bos: true,
    },
];

/// The pre-tokenizer of that name; a file without a name means `default`.
pub(super) fn by_name(name: Option<&str>) -> Option<&'static Named> {
    let name = name.unwrap_or("default");
    TABLE.iter().find(|named| named.names.contains(&name))
}

/// The name of the pre-tokenizer that a canonical `tokenizer.json` describes.
pub(super) fn name_of(pre_tokenizer: &Value, ignore_merges: bool) -> Option<&'static str> {
    let members = match pre_tokenizer.get("pretokenizers").and_then(Value::as_array) {
        Some(members) => members.as_slice(),
        None => std::slice::from_ref(pre_tokenizer),
    };
    let regexes: Vec<&str> = members.iter().map(regex_of).collect::<Option<_>>()?;
    let same = |named: &&Named| named.cuts.iter().map(|cut| cut.regex()).eq(regexes.iter().copied());
    let named = TABLE.iter().filter(same).find(|named| named.ignore_merges == ignore_merges)?;
    Some(named.names[0])
}

/// The expression whose matches a member of a canonical `pre_tokenizer` isolates.
fn regex_of(member: &Value) -> Option<&str> {
    let field = |key: &str| member.get(key).filter(|value| !value.is_null());
    let flag = |key: &str| field(key).and_then(Value::as_bool);
    match member.get("type")?.as_str()? {
        "Digits" => (flag("individual_digits") == Some(true)).then_some(DIGIT),
        "Split" => {
            let behavior = field("behavior").and_then(Value::as_str).unwrap_or("Isolated");
            // Expressions that leave nothing out mean the same by their gaps, as conversions from
            // other formats write them.
            let isolates = matches!(
                (behavior, flag("invert")),
                ("Isolated", None | Some(false)) | ("Removed", Some(true))
            );
            member.get("pattern")?.get("Regex")?.as_str().filter(|_| isolates)
        }
        _ => None,
    }
}

/// All names, for an error.
pub(super) fn names() -> String {
    let names: Vec<&str> = TABLE.iter().flat_map(|named| named.names).copied().collect();
    names.join(", ")
}
