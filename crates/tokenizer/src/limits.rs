//! Refuses a `tokenizer.json` that asks for more time or memory than any needs.
//!
//! The pipeline does as it is told: steps that each double a text make thousands of gigabytes of a word,
//! and some numbers are taken for sizes as they are. What is checked here, published files are far from.

use serde_json::Value;

/// How many times as long as it was a text may become by normalizing, and one token by decoding.
const MOST_GROWTH: usize = 1024;
/// How many regular expressions a file may have: each may take a moment to compile, and megabytes.
const MOST_REGEXES: usize = 16;
/// The longest regular expression. The largest published one has some 1.5 kB.
const MOST_REGEX_BYTES: usize = 16 << 10;
/// The longest word of WordPiece, in characters; BERT's is 100.
const MOST_WORD_CHARS: u64 = 10_000;
/// The longest piece of Unigram, whose tree is as deep as that and is taken apart by recursion.
const MOST_PIECE_BYTES: usize = 8192;
/// The longest token of WordPiece, whose array is built by a recursion as deep with larger frames. BERT's have 18 bytes.
const MOST_WORD_PIECE_BYTES: usize = 1024;
/// The most nodes of Unigram's tree of bytes, which take some 350 bytes each.
const MOST_UNIGRAM_NODES: usize = 4 << 20;
/// The most nodes of WordPiece's, which is packed in an array: a million of them take seconds.
const MOST_WORD_PIECE_NODES: usize = 2 << 20;

/// Checks a canonical `tokenizer.json`.
pub(crate) fn check(file: &Value) -> Result<(), String> {
    let mut regexes = 0;
    for part in ["normalizer", "pre_tokenizer", "decoder"] {
        let growth = growth_of(&file[part], &mut regexes).map_err(|problem| format!("{part}: {problem}"))?;
        if growth > MOST_GROWTH {
            return Err(format!(
                "{part}: it may make a text {growth} times as long, expected at most {MOST_GROWTH} times"
            ));
        }
    }
    if regexes > MOST_REGEXES {
        return Err(format!("it has {regexes} regular expressions, expected at most {MOST_REGEXES}"));
    }
    let model = &file["model"];
    let word = model.get("max_input_chars_per_word").and_then(Value::as_u64);
    if let Some(chars) = word.filter(|chars| *chars > MOST_WORD_CHARS) {
        return Err(format!("max_input_chars_per_word is {chars}, expected at most {MOST_WORD_CHARS}"));
    }
    let (tokens, most_bytes, most_nodes): (Vec<&str>, usize, usize) =
        match (&model["vocab"], model["type"].as_str()) {
            (Value::Array(pieces), _) => {
                let pieces = pieces.iter().filter_map(|piece| piece.get(0)?.as_str());
                (pieces.collect(), MOST_PIECE_BYTES, MOST_UNIGRAM_NODES)
            }
            (Value::Object(vocab), Some("WordPiece")) => {
                let tokens = vocab.iter().map(|(token, _)| token.as_str());
                (tokens.collect(), MOST_WORD_PIECE_BYTES, MOST_WORD_PIECE_NODES)
            }
            _ => return Ok(()),
        };
    let bytes = tokens.iter().map(|token| token.len()).max().unwrap_or_default();
    if bytes > most_bytes {
        return Err(format!("a piece of the vocabulary has {bytes} bytes, expected at most {most_bytes}"));
    }
    let nodes = tree_nodes(tokens);
    if nodes > most_nodes {
        return Err(format!("the vocabulary is a tree of {nodes} bytes, expected at most {most_nodes}"));
    }
    Ok(())
}

/// How many nodes a tree of all tokens has, a byte each: what they begin with is shared.
fn tree_nodes(mut tokens: Vec<&str>) -> usize {
    tokens.sort_unstable();
    let mut last: &[u8] = &[];
    let mut nodes = 0;
    for token in tokens.iter().map(|token| token.as_bytes()) {
        nodes += token.len() - last.iter().zip(token).take_while(|(one, other)| one == other).count();
        last = token;
    }
    nodes
}

/// How many times as long a text may become by a step, or by all steps of a sequence; counts regular
/// expressions on the way.
fn growth_of(step: &Value, regexes: &mut usize) -> Result<usize, String> {
    for list in ["normalizers", "pretokenizers", "decoders"] {
        if let Some(members) = step.get(list).and_then(Value::as_array) {
            return members
                .iter()
                .try_fold(1usize, |growth, member| Ok(growth.saturating_mul(growth_of(member, regexes)?)));
        }
    }
    let regex = step.pointer("/pattern/Regex").and_then(Value::as_str);
    if let Some(regex) = regex {
        *regexes += 1;
        if regex.len() > MOST_REGEX_BYTES {
            return Err(format!(
                "a regular expression of {} bytes, expected at most {MOST_REGEX_BYTES}",
                regex.len()
            ));
        }
    }
    let text = |key: &str| step.get(key).and_then(Value::as_str).map(str::len).unwrap_or_default();
    let literal = step.pointer("/pattern/String").and_then(Value::as_str);
    Ok(match step.get("type").and_then(Value::as_str) {
        // An expression may match nothing, between any two bytes.
        Some("Replace") if regex.is_some() => 1 + text("content"),
        Some("Replace") => text("content").div_ceil(literal.map_or(1, str::len).max(1)).max(1),
        Some("Prepend") => 1 + text("prepend"),
        Some("Strip") if step.get("stop").and_then(Value::as_u64).unwrap_or_default() > 0 => {
            // The pipeline looks for that many characters even where there are fewer.
            return Err(format!("Strip with stop {}, expected 0", step["stop"]));
        }
        _ => 1,
    })
}
