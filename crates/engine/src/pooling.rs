//! How the hidden states of a text become one vector, and what a model's files say about it.

use crate::error::{EngineError, Result};
use hearth_model::gguf::Gguf;
use hearth_tokenizer::replace_file;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// How the hidden states of a text become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean (Reimers & Gurevych 2019, section 3).
    Mean,
    /// The first token's, `[CLS]` in BERT.
    Cls,
    /// The last token's, which in a decoder has seen all others.
    Last,
}

impl Pooling {
    /// The vector of a text's hidden states [T, C].
    pub(crate) fn pool(self, hidden: &[f32], c: usize) -> Vec<f32> {
        match self {
            Pooling::Cls => hidden[..c].to_vec(),
            Pooling::Last => hidden[hidden.len() - c..].to_vec(),
            Pooling::Mean => {
                let mut sum = vec![0.0; c];
                for row in hidden.chunks_exact(c) {
                    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                }
                let count = (hidden.len() / c) as f32;
                sum.iter_mut().for_each(|sum| *sum /= count);
                sum
            }
        }
    }

    /// llama.cpp's number (`LLAMA_POOLING_TYPE_…`).
    pub(crate) fn gguf_number(self) -> u32 {
        match self {
            Pooling::Mean => 1,
            Pooling::Cls => 2,
            Pooling::Last => 3,
        }
    }

    fn of_gguf_number(number: u32) -> Option<Self> {
        [Pooling::Mean, Pooling::Cls, Pooling::Last].into_iter().find(|p| p.gguf_number() == number)
    }

    fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::Last => "last",
        }
    }
}

impl FromStr for Pooling {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = [Pooling::Mean, Pooling::Cls, Pooling::Last];
        let found = known.into_iter().find(|pooling| pooling.name() == name);
        found.ok_or_else(|| format!("{name:?} isn't a pooling; expected mean, cls or last"))
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a model's files say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PoolingRules {
    pub(crate) pooling: Option<Pooling>,
    /// Yes, unless `modules.json` leaves it out.
    pub(crate) normalize: bool,
    /// Texts are cut to so many tokens.
    pub(crate) max_tokens: Option<usize>,
    /// Texts are put into small letters before the tokenizer sees them.
    pub(crate) lowercase: bool,
    /// What stands in front of texts of a kind, such as `query`.
    pub(crate) prompts: BTreeMap<String, String>,
    /// Whether the tokens of a prompt count in the pooling.
    pub(crate) prompt_pooled: bool,
}

impl PoolingRules {
    const NONE: PoolingRules = PoolingRules {
        pooling: None,
        normalize: true,
        max_tokens: None,
        lowercase: false,
        prompts: BTreeMap::new(),
        prompt_pooled: true,
    };

    /// The prompt `name` of the model at `path`.
    pub(crate) fn prompt(&self, path: &Path, name: &str) -> Result<String> {
        let bad = |problem: String| EngineError::BadFile { path: path.to_owned(), problem };
        let Some(prompt) = self.prompts.get(name) else {
            let known: Vec<&str> = self.prompts.keys().map(String::as_str).collect();
            return Err(bad(match known.is_empty() {
                true => format!("prompt {name:?} is asked for, but the model has no prompts"),
                false => format!("the model has no prompt {name:?}, expected one of {}", known.join(", ")),
            }));
        };
        match self.prompt_pooled {
            true => Ok(prompt.clone()),
            false => Err(bad("a pooling that leaves out the prompt's tokens isn't supported".into())),
        }
    }

    /// Writes the files that [`of_folder`](Self::of_folder) and sentence-transformers read, in the words that old
    /// releases of it know too; vectors have `width` values.
    pub(crate) fn save(&self, dir: &Path, width: usize) -> std::io::Result<()> {
        let write = |path: &Path, json: &Value| {
            let text = serde_json::to_string_pretty(json)?;
            replace_file(path, (text + "\n").as_bytes())
        };
        let pooling = dir.join("1_Pooling");
        fs_err::create_dir_all(&pooling)?;
        let mut switches = json!({ "word_embedding_dimension": width, "include_prompt": self.prompt_pooled });
        for (kind, key) in
            [(Pooling::Cls, "cls_token"), (Pooling::Mean, "mean_tokens"), (Pooling::Last, "lasttoken")]
        {
            switches[format!("pooling_mode_{key}")] = json!(self.pooling == Some(kind));
        }
        write(&pooling.join("config.json"), &switches)?;
        let settings = json!({ "max_seq_length": self.max_tokens, "do_lower_case": self.lowercase });
        write(&dir.join("sentence_bert_config.json"), &settings)?;
        let prompts = json!({
            "prompts": self.prompts, "default_prompt_name": null, "similarity_fn_name": "cosine",
        });
        write(&dir.join("config_sentence_transformers.json"), &prompts)?;
        let mut modules = vec![("", "Transformer"), ("1_Pooling", "Pooling")];
        if self.normalize {
            modules.push(("2_Normalize", "Normalize"));
        }
        let modules = modules.iter().enumerate().map(|(i, (path, kind))| {
            json!({ "idx": i, "name": i.to_string(), "path": path,
                    "type": format!("sentence_transformers.models.{kind}") })
        });
        write(&dir.join("modules.json"), &modules.collect())
    }

    /// `bert.pooling_type`, or that of another architecture.
    pub(crate) fn of_gguf(file: &Gguf) -> Result<Self> {
        let key = format!("{}.pooling_type", file.get::<&str>("general.architecture")?);
        let pooling = match file.find::<u32>(&key)? {
            None | Some(0) => None,
            Some(number) => Some(Pooling::of_gguf_number(number).ok_or_else(|| {
                let problem = format!("key {key}: {number} isn't a pooling that is done here, 0 to 3 are");
                EngineError::BadFile { path: file.path().to_owned(), problem }
            })?),
        };
        Ok(PoolingRules { pooling, ..Self::NONE })
    }

    /// `modules.json` of sentence-transformers, and what it points to; nothing where there is none.
    pub(crate) fn of_folder(dir: &Path) -> Result<Self> {
        let mut rules = Self::NONE;
        if let Some(json) = read(&dir.join("sentence_bert_config.json"))? {
            rules.max_tokens = json["max_seq_length"].as_u64().and_then(|n| usize::try_from(n).ok());
            rules.lowercase = json["do_lower_case"] == true;
        }
        if let Some(json) = read(&dir.join("config_sentence_transformers.json"))? {
            let prompts = json["prompts"].as_object().into_iter().flatten();
            rules.prompts = prompts.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect();
        }
        let path = dir.join("modules.json");
        let Some(modules) = read(&path)? else {
            let pooling = dir.join("1_Pooling/config.json");
            rules.pooling = read(&pooling)?.map(|json| pooling_of(&pooling, &json)).transpose()?;
            return Ok(rules);
        };
        let bad = |problem: String| EngineError::BadFile { path: path.clone(), problem };
        let modules = modules.as_array().ok_or_else(|| bad("expected a list of modules".into()))?;
        rules.normalize = false;
        for module in modules {
            let kind = module["type"].as_str().unwrap_or_default();
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Normalize" => rules.normalize = true,
                "Pooling" => {
                    let folder = module["path"].as_str().unwrap_or_default();
                    // A module is a folder beside the file, never a path out of it.
                    if Path::new(folder).file_name() != Some(folder.as_ref()) {
                        return Err(bad(format!("expected the name of a folder, got {folder:?}")));
                    }
                    let path = dir.join(folder).join("config.json");
                    let json = read(&path)?.ok_or_else(|| EngineError::BadFile {
                        path: path.clone(),
                        problem: "not there, though modules.json names it".into(),
                    })?;
                    rules.pooling = Some(pooling_of(&path, &json)?);
                    rules.prompt_pooled = json["include_prompt"] != false;
                }
                _ => return Err(bad(format!("a module of type {kind:?} isn't supported"))),
            }
        }
        Ok(rules)
    }
}

/// A file that may be absent.
fn read(path: &Path) -> Result<Option<Value>> {
    if !path.is_file() {
        return Ok(None);
    }
    let json = serde_json::from_str(&fs_err::read_to_string(path)?);
    let bad = |error| EngineError::BadFile { path: path.to_owned(), problem: format!("not JSON: {error}") };
    json.map(Some).map_err(bad)
}

/// The one pooling that a configuration names, or switches on.
fn pooling_of(path: &Path, json: &Value) -> Result<Pooling> {
    let bad = |problem: String| EngineError::BadFile { path: path.to_owned(), problem };
    let unsupported = |what: &str| bad(format!("{what} isn't supported, mean, cls and lasttoken are"));
    let named = |name: &str| match name {
        "mean" | "mean_tokens" => Ok(Pooling::Mean),
        "cls" | "cls_token" => Ok(Pooling::Cls),
        "lasttoken" => Ok(Pooling::Last),
        other => Err(unsupported(&format!("pooling mode {other:?}"))),
    };
    if let Some(name) = json["pooling_mode"].as_str() {
        return named(name);
    }
    let switches = json.as_object().into_iter().flatten();
    let on: Vec<&str> = switches
        .filter(|(_, value)| **value == true)
        .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
        .collect();
    match on[..] {
        [one] => named(one),
        [] => Err(bad("expected one pooling_mode that is true, got none".into())),
        _ => Err(unsupported(&format!("several poolings at once ({})", on.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_become_one_vector() {
        let hidden = [1.0, 2.0, 3.0, 5.0, 8.0, 2.0];
        assert_eq!(Pooling::Mean.pool(&hidden, 2), [4.0, 3.0]);
        assert_eq!(Pooling::Cls.pool(&hidden, 2), [1.0, 2.0]);
        assert_eq!(Pooling::Last.pool(&hidden, 2), [8.0, 2.0]);
    }

    #[test]
    fn a_configuration_names_one_pooling_that_is_done_here() {
        let check = |json: Value, expect: Result<Pooling, &str>| {
            let got = pooling_of(Path::new("config.json"), &json).map_err(|error| error.to_string());
            assert_eq!(got, expect.map_err(|problem| format!("config.json: {problem}")), "{json}");
        };
        check(json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}), Ok(Pooling::Cls));
        check(json!({"pooling_mode_mean_tokens": true, "include_prompt": true}), Ok(Pooling::Mean));
        check(json!({"pooling_mode": "lasttoken"}), Ok(Pooling::Last));
        check(json!({}), Err("expected one pooling_mode that is true, got none"));
        check(
            json!({"pooling_mode_max_tokens": true}),
            Err("pooling mode \"max_tokens\" isn't supported, mean, cls and lasttoken are"),
        );
        check(
            json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}),
            Err(
                "several poolings at once (cls_token, mean_tokens) isn't supported, mean, cls and lasttoken are",
            ),
        );
    }
}
