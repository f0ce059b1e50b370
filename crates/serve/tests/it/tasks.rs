//! Vectors, labels and tags over HTTP, and the description of the whole interface.

use crate::{Room, text};
use axum::body::Body;
use axum::http::{Request, header};
use hearth_data::labelled::{ReadOptions, read_classify};
use hearth_model::{Encoder, EncoderConfig, StoredType, Weights, save_encoder_folder};
use hearth_train::baseline::{TextKind, finetune_texts};
use hearth_train::finetune::fit::{Event, Observer};
use hearth_train::neural::{Answer, usual_settings};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// A small BERT with random weights, which makes vectors.
pub fn write_embedder(dir: &Path) {
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "sat", "ran", "##s"];
    let encoder = Encoder::new(EncoderConfig::bert(words.len(), 64, 2, 2, 40)).expect("valid");
    save_encoder_folder(dir, &encoder, &Weights::init(&encoder, 3, false), StoredType::F32).expect("written");
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    let tokenizer = json!({
        "version": "1.0",
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                        "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                       { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] },
                                "[SEP]": { "id": "[SEP]", "ids": [3], "tokens": ["[SEP]"] } } },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100, "vocab": vocab },
        "added_tokens": words[..5].iter().enumerate().map(|(id, word)| json!({ "id": id, "content": word,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }))
            .collect::<Vec<Value>>(),
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).expect("written");
}

struct Silent;

impl Observer for Silent {
    fn say(&mut self, _: &str) {}
    fn event(&mut self, _: &Event) {}
    fn stop(&mut self) -> bool {
        false
    }
}

fn write_classifier(dir: &Path) {
    let rows = "a great film\tgood\nlovely and great\tgood\na dull film\tbad\ndull and sad\tbad\n";
    let file = dir.with_extension("tsv");
    std::fs::write(&file, format!("text\tlabel\n{}", rows.repeat(5))).expect("written");
    let read = || read_classify(std::slice::from_ref(&file), &ReadOptions::default(), None).expect("read");
    let settings = usual_settings(Answer::Text, 20, 1);
    finetune_texts(TextKind::NaiveBayes, read(), Some(read()), &settings, dir, &mut Silent).expect("learns");
}

#[tokio::test]
async fn vectors_and_labels() {
    let room = Room::with_more(|dir| {
        write_embedder(&dir.join("vectors"));
        write_classifier(&dir.join("opinions"));
        ["vectors", "opinions"].map(|name| (name.to_owned(), dir.join(name))).to_vec()
    });
    let (_, info) = room.post("/tokenize", json!({ "content": "a" }).to_string()).await;
    assert!(info.contains("tokens"), "the model that writes is still the first for texts: {info}");

    let told = room.done("/v1/embeddings", json!({ "input": ["the cat sat", "dogs ran"] })).await;
    let vector = |i: usize| -> Vec<f64> {
        told["data"][i]["embedding"].as_array().expect("a vector").iter().filter_map(Value::as_f64).collect()
    };
    assert_eq!((told["model"].as_str(), vector(0).len(), vector(1).len()), (Some("vectors"), 64, 64));
    assert!((vector(0).iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5);
    assert_eq!(told["usage"]["prompt_tokens"], 5 + 5, "with [CLS] and [SEP]");
    let short = room.done(
        "/v1/embeddings",
        json!({ "input": "the cat sat", "dimensions": 8, "encoding_format": "base64" }),
    );
    assert_eq!(
        short.await["data"][0]["embedding"].as_str().map(str::len),
        Some((8usize * 4).div_ceil(3) * 4)
    );
    let wrong = json!({ "input": "a", "dimensions": 65 });
    room.refused("/v1/embeddings", wrong, 400, Some("dimensions"), "expected 1 to 64").await;
    room.refused(
        "/v1/embeddings",
        json!({ "input": "a", "model": "tiny" }),
        400,
        Some("model"),
        "not for this",
    )
    .await;

    let told = room.done("/v1/classify", json!({ "input": ["what a great film", "so dull"] })).await;
    assert_eq!((&told["data"][0]["label"], &told["data"][1]["label"]), (&json!("good"), &json!("bad")));
    let scores = &told["data"][0]["scores"];
    let sum: f64 = ["good", "bad"].iter().filter_map(|label| scores[label].as_f64()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{scores}");
    room.refused("/v1/tag", json!({ "input": [["a"]] }), 404, Some("model"), "no model").await;
}

/// Every route is described, and nothing else is.
#[tokio::test]
async fn the_description_holds_what_there_is() {
    let room = Room::new();
    let request = Request::get("/openapi.json").header(header::HOST, "localhost").body(Body::empty());
    let told: Value =
        serde_json::from_str(&text(room.send(request.expect("a request")).await).await).expect("JSON");
    let described: BTreeSet<&str> =
        told["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    let source = include_str!("../../src/app.rs");
    let routes = source.split("\"/").skip(1).filter_map(|rest| rest.split('"').next());
    let page = ["", "page.js", "page.css"];
    let routes: BTreeSet<String> =
        routes.filter(|route| !page.contains(route)).map(|route| format!("/{route}")).collect();
    assert_eq!(described, routes.iter().map(String::as_str).collect());
    // Each reference leads somewhere.
    let whole = told.to_string();
    for reference in whole.split("\"#/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(told.pointer(&format!("/{reference}")).is_some(), "{reference}");
    }
}
