//! Conversations in the three forms they come in.

use hearth_data::Result;
use hearth_data::labelled::{BadRows, ChatExample, Loaded, ReadOptions, read_chat};

use crate::files::Files;

fn read(name: &str, content: &str, bad_rows: BadRows) -> Result<Loaded<ChatExample>> {
    let options = ReadOptions { bad_rows, ..ReadOptions::default() };
    read_chat(&Files::of(&[(name, content)]).paths, &options)
}

/// Each conversation as one text; what trains is marked with a star.
fn check(name: &str, content: &str, form: &str, expected: &[&str]) {
    let loaded = read(name, content, BadRows::Refuse).unwrap();
    let turn = |turn: &hearth_data::labelled::Turn| {
        format!("{}{}: {}", turn.role, if turn.trains { "*" } else { "" }, turn.text)
    };
    let got: Vec<String> = loaded
        .examples
        .iter()
        .map(|example| example.turns.iter().map(turn).collect::<Vec<_>>().join(" | "))
        .collect();
    assert_eq!(got, expected, "{content}");
    assert_eq!(loaded.sources[0].form, form, "{content}");
}

#[test]
fn messages() {
    let rows = r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}, {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "text", "text": "2"}]}, {"role": "assistant", "content": "b", "weight": 1}]}
{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#;
    check(
        "a.jsonl",
        rows,
        "OpenAI messages in JSON lines",
        &["system: s | user: q | assistant: a | user: q2 | assistant*: b", "user: q | assistant*: a"],
    );
}

#[test]
fn sharegpt() {
    let rows = r#"[{"id": "x", "system": "", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}]"#;
    check(
        "a.json",
        rows,
        "ShareGPT in JSON",
        &["user: q | assistant*: a", "system: s | user: q | assistant*: a"],
    );
}

#[test]
fn alpaca() {
    let rows = r#"[{"instruction": "i", "input": "", "output": "o"}, {"instruction": "i", "input": "n", "output": "o",
        "system": "s", "history": [["q", "a"]]}]"#;
    check(
        "a.json",
        rows,
        "Alpaca in JSON",
        &["user: i | assistant*: o", "system: s | user: q | assistant*: a | user: i\nn | assistant*: o"],
    );
    check("a.csv", "prompt,completion\np,c\n", "Alpaca in CSV", &["user: p | assistant*: c"]);
}

fn bad(rows: &str, expected: &[&str]) {
    let error = read("a.jsonl", rows, BadRows::Refuse).unwrap_err().to_string();
    assert!(error.ends_with("hint: --skip-bad leaves them out"), "{error}");
    let got: Vec<&str> = error.lines().filter_map(|line| Some(line.split_once("a.jsonl:")?.1)).collect();
    assert_eq!(got, expected);
}

#[test]
fn bad_conversations() {
    let line = |turns: &[(&str, &str)]| {
        let turns: Vec<_> =
            turns.iter().map(|(role, text)| serde_json::json!({"role": role, "content": text})).collect();
        serde_json::json!({"messages": turns}).to_string()
    };
    let (user, assistant, system) = (("user", "q"), ("assistant", "a"), ("system", "s"));
    let rows = [
        line(&[user, user, assistant]),
        line(&[assistant]),
        line(&[system, user]),
        line(&[user, assistant, system]),
        line(&[user, ("tool", "x")]),
        line(&[user, ("assistant", " ")]),
        "{\"messages\": [".to_string(),
        line(&[]),
        line(&[user, assistant]),
    ];
    bad(
        &rows.join("\n"),
        &[
            "1: roles out of order: turns 1 and 2 are both the user's",
            "2: roles out of order: the assistant speaks first, in turn 1",
            "3: it ends with the user's turn, expected the assistant's",
            "4: roles out of order: turn 3 is the system's, which may only be the first",
            "5: \"messages\"[1]: unknown role \"tool\": expected system, user or human, assistant or gpt",
            "6: turn 2, the assistant's, is empty",
            "7: broken JSON at column 14: EOF while parsing a list",
            "8: no turn",
        ],
    );
    let rows = r#"{"messages": "x"}
{"messages": [{"role": "user"}]}
{"messages": [{"content": "x"}]}
{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}
{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 2}]}
{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]}
{"messages": [{"role": "user", "content": null}]}"#;
    bad(
        rows,
        &[
            "1: \"messages\" holds a string, expected an array of turns",
            "2: \"messages\"[0]: no \"content\" or \"value\"",
            "3: \"messages\"[0]: no \"role\" or \"from\"",
            "4: \"messages\"[0]: a part of the content is of type \"image_url\", expected text",
            "5: \"messages\"[1]: weight 2: expected 0 or 1",
            "6: nothing to learn: all of the assistant's turns have weight 0",
            "7: \"messages\"[0]: the content is null, expected text",
        ],
    );
    let rows = r#"{"instruction": "i", "output": ""}
{"instruction": "", "output": "o"}
{"instruction": "i", "output": "o", "history": [["q"]]}"#;
    bad(
        rows,
        &[
            "1: no answer: \"output\" is empty",
            "2: \"instruction\" is empty",
            "3: \"history\"[0] is not a pair of texts",
        ],
    );
    let error = read("a.jsonl", "{\"text\": \"x\"}", BadRows::Skip).unwrap_err().to_string();
    assert!(error.contains("no column for the messages; the columns are \"text\""), "{error}");
}
