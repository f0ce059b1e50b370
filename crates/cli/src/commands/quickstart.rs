//! `hearth quickstart`: every stage on real text, in a few minutes.

use crate::commands::pretrain::finish;
use crate::failure::Usage;
use crate::terminal::Terminal;
use crate::training::{Watch, summary_json};
use anyhow::Result;
use hearth_engine::{Engine, Request, Sampling};
use hearth_train::Recipe;
use hearth_train::pretrain::pretrain;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Watch a tokenizer and a GPT being trained on real text, then writing
#[derive(clap::Args)]
pub struct Quickstart {
    /// English film reviews, or Chinese poems of the Tang
    #[arg(long, value_enum, default_value_t = Language::En)]
    lang: Language,
    /// Your own text instead
    #[arg(long, value_name = "FILE", conflicts_with = "lang")]
    data: Option<PathBuf>,
    /// Minutes of training
    #[arg(long, default_value_t = 4.0, value_name = "N")]
    minutes: f64,
    /// Where the model is kept; an earlier quickstart there is replaced
    #[arg(long, default_value = "hearth-quickstart", value_name = "DIR")]
    out: PathBuf,
    /// Don't start a server at the end (this version has none yet)
    #[arg(long)]
    no_serve: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Language {
    En,
    Zh,
}

const ENGLISH: &str = include_str!("../../../../recipes/quickstart-en.toml");
const CHINESE: &str = include_str!("../../../../recipes/quickstart-zh.toml");

impl Quickstart {
    pub fn run(self, terminal: &Terminal, seed: Option<u64>) -> Result<()> {
        // Nothing to decline yet.
        let Quickstart { lang, data, minutes, out, no_serve: _ } = self;
        let (text, place) = match lang {
            Language::En => (ENGLISH, "recipes/quickstart-en.toml"),
            Language::Zh => (CHINESE, "recipes/quickstart-zh.toml"),
        };
        let mut recipe = Recipe::parse(text, place)?;
        recipe.seed = seed.unwrap_or(recipe.seed);
        (recipe.train.steps, recipe.train.minutes) = (None, Some(minutes));
        if let Some(file) = &data {
            recipe.data.files = vec![file.display().to_string()];
            recipe.train.prompts.clear();
        }
        clear_earlier(&out)?;
        terminal
            .say("Reading text, training a tokenizer, then a GPT. Ctrl-C stops and keeps a checkpoint.\n");
        let summary = pretrain(&recipe, &out, false, &mut Watch::new(terminal, false))?;
        let again = format!("hearth pretrain {0}/recipe.toml --out {0} --resume", out.display());
        finish(terminal, &summary, &out, &again)?;
        write_samples(terminal, &out, &recipe)?;
        let prompt = recipe.train.prompts.first().map_or("", String::as_str);
        terminal.say(&format!(
            "\nWhat to try next:\n  hearth generate {0} --prompt \"{prompt}\"\n  hearth eval {0} --text FILE\n  \
             hearth quickstart --data YOUR.txt --out my-model\n  hearth pretrain {0}/recipe.toml --minutes 60 --out longer",
            out.display()
        ));
        let mut json = summary_json(&summary);
        json["path"] = out.display().to_string().into();
        terminal.result("", &json)
    }
}

/// What a run leaves in its folder.
const ARTEFACTS: [&str; 12] = [
    "checkpoints",
    "config.json",
    "curves.svg",
    "data",
    "generation_config.json",
    "hearth.json",
    "model.safetensors",
    "recipe.toml",
    "run.jsonl",
    "tokenizer.json",
    "tokenizer_config.json",
    ".lock",
];

/// Removes an earlier run, and refuses a folder that holds anything else.
fn clear_earlier(out: &Path) -> Result<()> {
    if !out.exists() {
        return Ok(());
    }
    let mut ours = Vec::new();
    for entry in fs_err::read_dir(out)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !ARTEFACTS.contains(&name.as_str()) {
            return Err(Usage(format!(
                "{}: holds {name}, which no quickstart wrote\nhint: choose another folder with --out",
                out.display()
            ))
            .into());
        }
        ours.push(path);
    }
    for path in ours {
        if path.is_dir() { fs_err::remove_dir_all(path)? } else { fs_err::remove_file(path)? }
    }
    Ok(())
}

/// Three texts by the model that was just trained, read back from its folder.
fn write_samples(terminal: &Terminal, out: &Path, recipe: &Recipe) -> Result<()> {
    let mut engine = Engine::open(out)?;
    let prompts =
        if recipe.train.prompts.is_empty() { vec![String::new()] } else { recipe.train.prompts.clone() };
    let requests: Vec<Request> = prompts
        .iter()
        .map(|prompt| Request {
            sampling: Sampling { temperature: 0.8, top_p: 0.95, seed: recipe.seed, ..Sampling::default() },
            ..Request::new(prompt, 80)
        })
        .collect();
    let (completions, _) = engine.generate(&requests, |_| ControlFlow::Continue(()))?;
    terminal.say("\nWritten by the model just trained:\n");
    for completion in completions {
        let text = format!("{}{}", prompts[completion.request], completion.text);
        let shown: Vec<String> = text.lines().map(|line| format!("    │ {line}")).collect();
        terminal.say(&(shown.join("\n") + "\n"));
    }
    Ok(())
}
