//! Constrained output: whatever is drawn, it is what was asked for.

use crate::{bpe, chars, drawn, engine_of, greedy, one, run};
use hearth_engine::{Completion, Constraint, Engine, FinishReason, Request};
use serde_json::{Value, json};

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 8},
            "age": {"type": "integer", "minimum": 3, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["red", "蓝", "it's"]}, "maxItems": 3},
            "mood": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/mood"}]}
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false,
        "$defs": {"mood": {"type": "boolean"}}
    })
}

/// Checks by hand what `schema` says.
fn check_json(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let object = value.as_object().expect("an object");
    assert!(object.keys().all(|key| ["name", "age", "tags", "mood"].contains(&key.as_str())), "{text}");
    let name = object["name"].as_str().expect("a string").chars().count();
    assert!((1..=8).contains(&name), "{text}");
    assert!((3..=150).contains(&object["age"].as_u64().expect("an integer")), "{text}");
    let tags = object["tags"].as_array().expect("an array");
    assert!(tags.len() <= 3 && tags.iter().all(|tag| ["red", "蓝", "it's"].contains(&tag.as_str().unwrap())));
    assert!(object.get("mood").is_none_or(|mood| mood.is_null() || mood.is_boolean()), "{text}");
}

fn held(constraint: &Constraint, max_tokens: usize, seed: u64) -> Request {
    let mut request = drawn("The cat: ", max_tokens, seed);
    request.sampling.temperature = 1.0 + (seed % 5) as f32;
    Request { constraint: Some(constraint.clone()), ..request }
}

/// Many seeds and temperatures; of what ended, each passes `check`, and most do end.
fn check(engine: &mut Engine, constraint: &Constraint, check: impl Fn(&str)) -> Vec<Completion> {
    let ends = engine.special().ends.clone();
    let requests: Vec<Request> = (0..30)
        .map(|seed| {
            let mut request = held(constraint, 300, seed);
            if seed % 3 == 0 {
                // Eager to end: it may only where the output is complete.
                request.sampling.logit_bias.extend(ends.iter().map(|&end| (end, 30.0)));
            }
            request
        })
        .collect();
    let mut completions = run(engine, &requests);
    for c in &completions {
        match c.finish {
            FinishReason::Eos => check(&c.text),
            reason => assert_eq!((reason, c.tokens.len()), (FinishReason::Length, 300), "{:?}", c.text),
        }
    }
    completions.retain(|c| c.finish == FinishReason::Eos);
    assert!(completions.len() >= 15, "only {} of {} ended", completions.len(), requests.len());
    completions
}

#[test]
fn json_follows_its_schema() {
    let mut engine = engine_of(bpe(), 512);
    let ended = check(&mut engine, &Constraint::JsonSchema(schema()), check_json);
    assert!(ended.iter().any(|c| c.text.contains('蓝')), "Chinese text never came");
    assert!(ended.iter().any(|c| c.text.contains("mood")), "what isn't required never came");
    // A vocabulary of characters that has no quotation mark.
    let any = Constraint::JsonSchema(json!({"enum": ["cat", "春眠"]}));
    let request = Request { constraint: Some(any), ..drawn("The cat", 9, 1) };
    let error = engine_of(chars(), 512).generate(&[request], |_| panic!("no text")).expect_err("no \"");
    assert_eq!(error.to_string(), "JSON schema: no token of the vocabulary can go on");
}

#[test]
fn strings_of_chinese_characters() {
    let schema = json!({"type": "array", "items": {"type": "string", "pattern": "^[春眠不觉晓，]{5}$"},
        "minItems": 2, "maxItems": 2});
    check(&mut engine_of(bpe(), 512), &Constraint::JsonSchema(schema), |text| {
        let lines: Vec<String> = serde_json::from_str(text).expect("two strings");
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(line.chars().count() == 5 && line.chars().all(|c| "春眠不觉晓，".contains(c)), "{line}");
        }
    });
}

#[test]
fn text_matches_its_expression() {
    let date = Constraint::Regex("(19|20)[0-9]{2}-(0[1-9]|1[0-2]) (cat|狗/)+".into());
    let is_date = |text: &str| {
        let (date, rest) = text.split_once(' ').expect("a space");
        let (year, month) = date.split_once('-').expect("a hyphen");
        assert!((1900..2100).contains(&year.parse::<u32>().expect("a year")), "{text}");
        assert!((1..13).contains(&month.parse::<u32>().expect("a month")) && month.len() == 2, "{text}");
        let rest = rest.replace("cat", "").replace("狗/", "");
        assert!(rest.is_empty() && text.len() > 8, "{text}");
    };
    check(&mut engine_of(bpe(), 512), &date, is_date);
    // Of one letter a token, and without a token that ends a text: what is complete just ends.
    let letters =
        hearth_tokenizer::train_chars([Ok::<_, std::io::Error>("abc: Ttehx".to_owned())].into_iter(), &[]);
    let mut engine = engine_of(letters.expect("trains"), 64);
    let request = Request { constraint: Some(Constraint::Regex("ab(c|x)a".into())), ..drawn("The", 40, 3) };
    let completion = one(&mut engine, Request { prompt: greedy("abc", 1).prompt, ..request });
    assert!(["abca", "abxa"].contains(&completion.text.as_str()), "{}", completion.text);
    assert_eq!((completion.tokens.len(), completion.finish), (4, FinishReason::Eos));
}

#[test]
fn text_is_of_its_grammar() {
    let lark = "start: sum\nsum: term (\"+\" term)*\nterm: NUMBER | \"(\" sum \")\"\nNUMBER: /[0-9]{1,3}/\n";
    let sum = |text: &str| {
        let mut depth = 0;
        for (before, c) in format!(" {text}").chars().zip(text.chars()) {
            depth += i32::from(c == '(') - i32::from(c == ')');
            let follows = match c {
                '(' => " (+".contains(before),
                ')' | '+' => before == ')' || before.is_ascii_digit(),
                _ => c.is_ascii_digit() && before != ')',
            };
            assert!(follows && depth >= 0, "{text}");
        }
        assert!(depth == 0 && !text.ends_with('+'), "{text}");
    };
    check(&mut engine_of(bpe(), 512), &Constraint::Grammar(lark.into()), sum);
}

#[test]
fn stop_strings_and_lengths_still_end_it() {
    let mut engine = engine_of(bpe(), 512);
    let constraint = Constraint::JsonSchema(schema());
    let stopped = one(&mut engine, Request { stop: vec!["\"age".into()], ..held(&constraint, 300, 5) });
    assert_eq!(stopped.finish, FinishReason::Stop);
    assert!(stopped.text.contains("\"name\"") && !stopped.text.contains("age"), "{}", stopped.text);
    let cut = one(&mut engine, held(&constraint, 6, 5));
    assert_eq!((cut.tokens.len(), cut.finish), (6, FinishReason::Length));
    // Just long enough is not cut.
    let word = Request { n: 3, ..held(&Constraint::Regex("cat".into()), 300, 2) };
    for whole in run(&mut engine, std::slice::from_ref(&word)) {
        assert_eq!((whole.text.as_str(), whole.finish), ("cat", FinishReason::Eos));
        let exact = Request { max_tokens: whole.tokens.len(), n: 3, ..word.clone() };
        assert_eq!(run(&mut engine, &[exact])[whole.sequence].text, "cat");
    }
}

#[test]
fn it_leaves_its_company_alone() {
    let mut engine = engine_of(bpe(), 512);
    let constraint = Constraint::JsonSchema(schema());
    let free: Vec<Request> = (0..6).map(|seed| drawn("The dog", 30, seed)).collect();
    let alone = run(&mut engine, &free);
    let held_alone = one(&mut engine, held(&constraint, 60, 9));
    let mut mixed = free;
    mixed.insert(3, held(&constraint, 60, 9));
    let mut together = run(&mut engine, &mixed);
    assert_eq!(together.remove(3).tokens, held_alone.tokens);
    let tokens = |all: &[Completion]| all.iter().map(|c| c.tokens.clone()).collect::<Vec<_>>();
    assert_eq!(tokens(&together), tokens(&alone));
}

#[test]
fn tokens_that_stand_for_no_text_are_never_part_of_it() {
    let mut engine = engine_of(bpe(), 512);
    let end = engine.special().ends[0];
    let spelled = Constraint::Regex("<\\|endoftext\\|>!".into());
    let completion = one(&mut engine, held(&spelled, 60, 0));
    assert_eq!(completion.text, "<|endoftext|>!");
    assert!(!completion.tokens[..completion.tokens.len() - 1].contains(&end));
}

#[test]
fn what_is_no_constraint_says_where() {
    let mut engine = engine_of(bpe(), 64);
    let mut check = |constraint: Constraint, expect: &str| {
        let request = Request { constraint: Some(constraint), ..greedy("a", 3) };
        let error = engine.generate(&[greedy("a", 3), request], |_| panic!("no text")).expect_err("refused");
        assert!(error.is_input_error());
        assert_eq!(error.to_string(), expect);
    };
    check(
        Constraint::Regex("a(b".into()),
        "regular expression: invalid regex \"a(b\" (in regex): regex parse error:\n    a(b\n     ^\nerror: \
         unclosed group",
    );
    check(
        Constraint::Grammar("start: \"a\"\nfoo: bar baz(\n".into()),
        "grammar: 2(14): Expected token ')', found '\\n' (at \"\\n\\n\" ('\\n'))\n   1 | start: \"a\"\n   2 | foo: \
         bar baz(\n                    ^",
    );
    check(Constraint::Grammar("foo: \"a\"\n".into()), "grammar: no start rule found");
    let property = |schema: Value| json!({"type": "object", "properties": {"b": true, "a/b": schema}});
    check(
        Constraint::JsonSchema(property(json!({"type": "objekt"}))),
        "JSON schema: at #/properties/a~1b: Invalid type: objekt",
    );
    check(
        Constraint::JsonSchema(property(
            json!({"type": "array", "items": {"type": "string", "pattern": "a("}}),
        )),
        "JSON schema: at #/properties/a~1b/items: regex parse error:\n    a(\n     ^\nerror: unclosed group",
    );
    check(
        Constraint::JsonSchema(
            json!({"$ref": "#/$defs/p", "$defs": {"p": {"minLength": "x", "type": "string"}}}),
        ),
        "JSON schema: at #/$defs/p: Expected positive integer for 'minLength', got \"x\"",
    );
    check(Constraint::JsonSchema(json!(5)), "JSON schema: at #: schema must be an object or boolean");
    let request =
        Request { constraint: Some(Constraint::Regex("a".into())), ignore_eos: true, ..greedy("a", 3) };
    assert_eq!(
        engine.generate(&[request], |_| panic!("no text")).expect_err("refused").to_string(),
        "request 0: constrained output ends where its grammar does: ignore_eos can't be honoured"
    );
}
