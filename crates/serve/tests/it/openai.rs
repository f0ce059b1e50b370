//! What OpenAI's interface promises: shapes, streams that add up to the whole, limits, errors by field.

use crate::{Room, SECOND, says};
use hearth_serve::keys::{Key, Scope};
use serde_json::{Value, json};

fn content(json: &Value) -> &str {
    json["choices"][0]["message"]["content"].as_str().expect("a text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_adds_up_to_the_whole() {
    let room = Room::new();
    for more in [
        json!({}),
        json!({ "n": 3 }),
        json!({ "stop": ["t", "眠"] }),
        json!({ "logprobs": true, "top_logprobs": 2 }),
    ] {
        let whole = room.done("/v1/chat/completions", says("The cat", more.clone())).await;
        assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!("tiny")));
        let mut body = says("The cat", more.clone());
        (body["stream"], body["stream_options"]) = (json!(true), json!({ "include_usage": true }));
        let events = room.events("/v1/chat/completions", body).await;
        let last = events.last().expect("the usage");
        assert_eq!(last["choices"], json!([]));
        for key in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(last["usage"][key], whole["usage"][key], "{key}, {more}");
        }
        for (index, choice) in whole["choices"].as_array().expect("choices").iter().enumerate() {
            let of: Vec<&Value> = events
                .iter()
                .flat_map(|event| event["choices"].as_array().expect("choices"))
                .filter(|choice| choice["index"] == index)
                .collect();
            let text: String = of.iter().filter_map(|piece| piece["delta"]["content"].as_str()).collect();
            assert_eq!(choice["message"]["content"], text, "{more}");
            assert_eq!(of.last().expect("an end")["finish_reason"], choice["finish_reason"]);
            let told: Vec<&Value> =
                of.iter().filter_map(|piece| piece["logprobs"]["content"].as_array()).flatten().collect();
            let expected: Vec<&Value> =
                choice["logprobs"]["content"].as_array().into_iter().flatten().collect();
            assert_eq!(told, expected, "{more}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_says_the_same_in_a_crowd() {
    let room = Room::new();
    let alone = room.done("/v1/chat/completions", says("春眠不觉晓", json!({}))).await;
    let crowd = (0..20).map(|i| {
        let (text, more) = if i % 4 == 0 {
            ("春眠不觉晓", json!({}))
        } else {
            ("The mat", json!({ "seed": i, "n": 1 + i % 3 }))
        };
        let room = &room;
        async move { room.done("/v1/chat/completions", says(text, more)).await }
    });
    let mut tasks = Vec::new();
    // All at once: each is polled before any is waited for.
    for one in crowd {
        tasks.push(Box::pin(one));
    }
    let mut answers = Vec::new();
    let mut tasks: Vec<_> = tasks.into_iter().map(Some).collect();
    std::future::poll_fn(|context| {
        for task in &mut tasks {
            if let Some(future) = task
                && let std::task::Poll::Ready(answer) = future.as_mut().poll(context)
            {
                answers.push(answer);
                *task = None;
            }
        }
        if tasks.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    let same = answers.iter().filter(|answer| content(answer) == content(&alone)).count();
    assert!(same >= 5, "{same} of 5");
    let cached =
        |json: &Value| json["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a number");
    let again = room.done("/v1/chat/completions", says("春眠不觉晓", json!({}))).await;
    assert!(cached(&again) + 1 >= again["usage"]["prompt_tokens"].as_u64().expect("a number"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_echo_and_score() {
    let room = Room::new();
    let body = json!({ "prompt": ["The cat", "on the mat"], "max_tokens": 3, "temperature": 0, "echo": true, "logprobs": 2 });
    let json = room.done("/v1/completions", body).await;
    let choices = json["choices"].as_array().expect("choices");
    assert_eq!(choices.len(), 2);
    for (choice, prompt) in choices.iter().zip(["The cat", "on the mat"]) {
        let text = choice["text"].as_str().expect("a text");
        assert!(text.starts_with(prompt), "{text}");
        let lists = &choice["logprobs"];
        let tokens: String =
            lists["tokens"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        // A token that is no whole character is told by its bytes.
        assert!(tokens.starts_with(prompt), "{tokens}");
        let logprobs = lists["token_logprobs"].as_array().expect("a list");
        assert!(logprobs[0].is_null() && logprobs[1..].iter().all(|l| l.as_f64().is_some_and(|l| l <= 0.0)));
        assert_eq!(lists["top_logprobs"].as_array().map(Vec::len), Some(logprobs.len()));
    }
    // A prompt alone can be scored, and tokens are a prompt too.
    let ids = room.done("/tokenize", json!({ "content": "The cat" })).await;
    let ids: Vec<Value> =
        ids["tokens"].as_array().expect("tokens").iter().map(|token| token["id"].clone()).collect();
    let scored = room
        .done("/v1/completions", json!({ "prompt": ids, "max_tokens": 0, "echo": true, "logprobs": 0 }))
        .await;
    assert_eq!(scored["choices"][0]["text"], "The cat");
    assert_eq!(scored["choices"][0]["logprobs"]["tokens"].as_array().map(Vec::len), Some(ids.len()));
    // One token is asked for behind a prompt, and told, even if it's the one that ends the text; lm-eval counts on it.
    let end = room.done("/tokenize", json!({ "content": "<|endoftext|>", "parse_special": true })).await;
    let bias = json!({ end["tokens"][0]["id"].to_string(): 100 });
    let asked = json!({ "prompt": ids, "max_tokens": 1, "echo": true, "logprobs": 0, "logit_bias": bias });
    let scored = room.done("/v1/completions", asked).await;
    let choice = &scored["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("The cat"), &json!("stop")));
    assert_eq!(choice["logprobs"]["tokens"].as_array().map(Vec::len), Some(ids.len() + 1));
    let text = room.done("/detokenize", json!({ "tokens": ids })).await;
    assert_eq!(text["content"], "The cat");
    let mut streamed = String::new();
    let body =
        json!({ "prompt": "The cat", "max_tokens": 9, "temperature": 0, "stream": true, "echo": true });
    for event in room.events("/v1/completions", body.clone()).await {
        streamed += event["choices"][0]["text"].as_str().expect("a text");
    }
    let mut body = body;
    body["stream"] = json!(false);
    assert_eq!(room.done("/v1/completions", body).await["choices"][0]["text"], streamed);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_held_to_schemas_and_calls() {
    let room = Room::new();
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer", "maximum": 99, "minimum": 0 } },
                         "required": ["n"], "additionalProperties": false });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } });
    let more = json!({ "response_format": format, "max_tokens": 200 });
    let json = room.done("/v1/chat/completions", says("a number", more)).await;
    let value: Value = serde_json::from_str(content(&json)).expect("JSON");
    assert!(value["n"].as_u64().is_some_and(|n| n <= 99), "{value}");

    let function = json!({ "type": "function", "function": { "name": "look", "parameters": schema } });
    let more = json!({ "tools": [function], "tool_choice": "required", "max_tokens": 200 });
    let json = room.done("/v1/chat/completions", says("look", more.clone())).await;
    let choice = &json["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null)
    );
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("look")));
    let arguments: Value =
        serde_json::from_str(call["function"]["arguments"].as_str().expect("a text")).expect("JSON");
    assert!(arguments["n"].is_u64(), "{arguments}");
    let mut body = says("look", more);
    body["stream"] = json!(true);
    let events = room.events("/v1/chat/completions", body).await;
    let streamed =
        events.iter().find_map(|event| event["choices"][0]["delta"]["tool_calls"][0]["function"].as_object());
    assert_eq!(streamed, call["function"].as_object());
    // The result goes back in.
    let turns = json!([
        { "role": "user", "content": [{ "type": "text", "text": "look" }] },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "content": "7", "tool_call_id": call["id"] },
    ]);
    room.done("/v1/chat/completions", json!({ "messages": turns, "tools": [function] })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_by_field() {
    let room = Room::new();
    let chat = "/v1/chat/completions";
    for (more, status, param, part) in [
        (json!({ "model": "other" }), 404, Some("model"), "tiny"),
        (json!({ "messages": [] }), 400, Some("messages"), "no message"),
        (json!({ "messages": 3 }), 400, Some("messages"), "integer"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }),
            400,
            Some("messages[0].content"),
            "text",
        ),
        (
            json!({ "messages": [{ "role": "assistant", "tool_calls": [[]] }] }),
            400,
            Some("messages[0].tool_calls[0]"),
            "map",
        ),
        (json!({ "n": 0 }), 400, Some("n"), "1 to"),
        (json!({ "top_logprobs": 3 }), 400, Some("top_logprobs"), "logprobs"),
        (json!({ "logit_bias": { "x": 1 } }), 400, Some("logit_bias.x"), "id"),
        (json!({ "response_format": { "type": "xml" } }), 400, Some("response_format.type"), "json_schema"),
        (json!({ "tools": [{ "type": "function" }] }), 400, Some("tools[0]"), "name"),
        (json!({ "tool_choice": "required" }), 400, Some("tool_choice"), "no function"),
        (json!({ "temperature": -1 }), 400, None, "temperature"),
        (
            json!({ "messages": [{ "role": "user", "content": "the mat ".repeat(400) }] }),
            400,
            None,
            "context",
        ),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": { "type": "nothing" } } } }),
            400,
            None,
            "schema",
        ),
    ] {
        room.refused(chat, says("a", more), status, param, part).await;
    }
    room.refused(
        "/v1/embeddings",
        json!({ "model": "tiny", "input": "a" }),
        400,
        Some("model"),
        "not for this",
    )
    .await;
    room.refused("/v1/nothing", json!({}), 404, None, "/v1/nothing").await;
    room.refused("/v1/models", json!({}), 405, None, "POST").await;
    for body in [
        "",
        "{",
        "[]",
        "\u{0}",
        "{\"messages\": 1e999}",
        &format!("{{\"a\": {}1{}}}", "[".repeat(9000), "]".repeat(9000)),
    ] {
        let (status, text) = room.post(chat, body.to_owned()).await;
        assert_eq!(status.as_u16(), 400, "{body:.40}: {text}");
    }
    let (status, _) = room.post(chat, "x".repeat((8 << 20) + 1)).await;
    assert_eq!(status.as_u16(), 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_time_and_queues_have_their_limits() {
    let (key, words) = Key::new("one", vec![Scope::Models], Some(3));
    let room = Room::with(|options| options.1.time_limit = SECOND / 1000, vec![key]);
    let (status, text) = room.post("/v1/chat/completions", says("a", json!({})).to_string()).await;
    assert_eq!(status.as_u16(), 401, "{text}");
    let with_key = |path: &str| {
        axum::http::Request::get(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {words}"))
            .body(axum::body::Body::empty())
            .expect("a request")
    };
    assert_eq!(room.send(with_key("/v1/models")).await.status().as_u16(), 200);
    assert_eq!(room.send(with_key("/metrics")).await.status().as_u16(), 403, "the key isn't for that");
    let mut slow = with_key("/v1/completions");
    *slow.method_mut() = axum::http::Method::POST;
    *slow.body_mut() =
        axum::body::Body::from(json!({ "prompt": "a", "max_tokens": 390, "ignore_eos": true }).to_string());
    assert_eq!(room.send(slow).await.status().as_u16(), 408, "it takes longer than a millisecond");
    let limited = room.send(with_key("/v1/models")).await;
    assert_eq!(limited.status().as_u16(), 200);
    let limited = room.send(with_key("/v1/models")).await;
    assert_eq!(limited.status().as_u16(), 429);
    assert!(limited.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn the_newer_interface() {
    let room = Room::new();
    let asked = json!({ "input": "The cat", "seed": 7, "max_output_tokens": 12 });
    let whole = room.done("/v1/responses", asked.clone()).await;
    let text = &whole["output"][0]["content"][0]["text"];
    let older = room.done("/v1/chat/completions", says("The cat", json!({ "max_tokens": 12 }))).await;
    assert_eq!(*text, older["choices"][0]["message"]["content"], "the same model, asked the same");
    assert_eq!(whole["usage"]["total_tokens"], older["usage"]["total_tokens"]);
    for (more, param, part) in [
        (json!({ "previous_response_id": "resp_1" }), "previous_response_id", "aren't kept"),
        (json!({ "n": 2 }), "n", "one answer"),
        (json!({ "input": [{ "type": "image" }] }), "input[0].type", "function_call"),
        (json!({ "input": [{ "content": "a" }] }), "input[0].role", "a role"),
        (json!({ "input": 3 }), "input", "a list of items"),
        (json!({ "tools": [{ "type": "function" }] }), "tools[0]", "a name"),
    ] {
        let mut body = asked.clone();
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        room.refused("/v1/responses", body, 400, Some(param), part).await;
    }
}
