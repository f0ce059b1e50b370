//! Windows of questions on passages, against those of `transformers`, and what holds of any.

use hearth_engine::{FramedQuestion, Framing, frame_questions};
use hearth_tokenizer::Tokenizer;
use proptest::prelude::*;
use serde_json::Value;
use std::ops::Range;
use std::sync::LazyLock;

/// Made once: the properties below ask for them many times.
static WORD_PIECES: LazyLock<(Tokenizer, Value)> = LazyLock::new(|| golden("word_pieces"));
static BYTES: LazyLock<(Tokenizer, Value)> = LazyLock::new(|| golden("bytes"));

/// A tokenizer, and the cases that `transformers` gave with it.
fn golden(kind: &str) -> (Tokenizer, Value) {
    let mut golden: Value = serde_json::from_str(include_str!("golden/windows.json")).expect("JSON");
    let golden = golden[kind].take();
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("tokenizer.json"), golden["tokenizer"].to_string()).expect("written");
    (Tokenizer::from_folder(dir.path()).expect("a tokenizer"), golden)
}

fn frame(
    tokenizer: &Tokenizer,
    question: &str,
    passage: &str,
    limit: usize,
    stride: usize,
) -> FramedQuestion {
    let framing = Framing::of(tokenizer);
    let framed = frame_questions(tokenizer, &framing, &[(question, passage)], limit, stride);
    framed.expect("frames").remove(0)
}

#[test]
fn windows_and_offsets_are_those_of_transformers() {
    for golden in [&WORD_PIECES, &BYTES] {
        check_against_transformers(golden);
    }
}

fn check_against_transformers((tokenizer, golden): &(Tokenizer, Value)) {
    let number = |value: &Value| value.as_u64().expect("a number") as usize;
    for case in golden["cases"].as_array().expect("cases") {
        let text = |key: &str| case[key].as_str().expect("a text");
        let (question, passage) = (text("question"), text("passage"));
        let framed = frame(tokenizer, question, passage, number(&case["limit"]), number(&case["stride"]));
        let characters =
            |bytes: &Range<usize>| [bytes.start, bytes.end].map(|byte| passage[..byte].chars().count());
        let expected = case["windows"].as_array().expect("windows");
        assert_eq!(framed.windows.len(), expected.len(), "{passage:?}");
        for (window, expect) in framed.windows.iter().zip(expected) {
            let numbers = |key: &str| -> Vec<usize> {
                expect[key].as_array().expect("numbers").iter().map(number).collect()
            };
            let own = |numbers: &[u32]| -> Vec<usize> { numbers.iter().map(|&x| x as usize).collect() };
            assert_eq!(own(&window.input.ids), numbers("ids"), "{passage:?}");
            assert_eq!(own(&window.input.types), numbers("types"), "{passage:?}");
            assert_eq!(window.first_row, number(&expect["first_row"]), "{passage:?}");
            let offsets = expect["offsets"].as_array().expect("offsets");
            let offsets: Vec<[usize; 2]> = offsets.iter().map(|o| [number(&o[0]), number(&o[1])]).collect();
            let got: Vec<[usize; 2]> = framed.offsets[window.tokens.clone()].iter().map(characters).collect();
            assert_eq!(got, offsets, "{passage:?}");
        }
    }
}

#[test]
fn a_long_question_leaves_half_of_the_window() {
    let (tokenizer, _) = &*WORD_PIECES;
    let framed = frame(tokenizer, &"who ".repeat(40), "the cat sat on the mat.", 13, 100);
    assert_eq!((framed.cut, framed.windows[0].first_row), (35, 7));
    let parts: Vec<Range<usize>> = framed.windows.iter().map(|window| window.tokens.clone()).collect();
    // Five tokens of the passage fit, and no more than two of them come again.
    assert_eq!(parts, [0..5, 3..7]);
}

proptest! {
    #[test]
    fn windows_cover_the_passage_and_tokens_are_traced_back(
        passage in "([a-zA-Z ]|[北京是中 ]|[éÉßİΣσﬁ]|\\PC|[\\u0300-\\u0303]|[\\u1100-\\u1110\\uac00-\\uac10]){0,60}",
        limit in 4usize..40,
        stride in 0usize..50,
    ) {
        for ((tokenizer, _), spaces_count) in [(&*WORD_PIECES, true), (&*BYTES, false)] {
            let framed = frame(tokenizer, "who ran", &passage, limit, stride);
            let mut ids = Vec::new();
            let mut covered = 0;
            for window in &framed.windows {
                prop_assert!(window.input.ids.len() <= limit && window.input.cut == 0);
                prop_assert!(window.tokens.start <= covered && window.tokens.end >= covered);
                let rows = window.first_row..window.first_row + window.tokens.len();
                ids.extend_from_slice(&window.input.ids[rows][covered - window.tokens.start..]);
                covered = window.tokens.end;
            }
            prop_assert_eq!(&ids, &tokenizer.encode(&passage).expect("encodes"));
            prop_assert_eq!(framed.offsets.len(), ids.len());
            // In order, and on the borders of characters; two tokens may share a character that came apart.
            for pair in framed.offsets.windows(2) {
                prop_assert!(pair[0].start <= pair[1].start && pair[0].end <= pair[1].end);
            }
            for bytes in framed.offsets.iter() {
                prop_assert!(passage.get(bytes.clone()).is_some());
                prop_assert!(!bytes.is_empty() || !spaces_count);
            }
        }
    }
}
