//! `hearth finetune`: teach a pretrained model a task from labelled examples.

mod settings;
pub(super) mod watch;

use self::settings::{EmbedArgs, SettingsArgs};
use self::watch::{Watch, finish, told};
use super::answer::RulesArgs;
use crate::failure::Usage;
use crate::model::resolve;
use crate::preview;
use crate::terminal::Terminal;
use anyhow::Result;
use clap::ValueEnum;
use hearth_data::labelled::{
    BadRows, Kind, Loaded, ReadOptions, read_chat, read_classify, read_pairs, read_qa, read_tag, read_texts,
};
use hearth_engine::{AnswerRules, EmbedOptions, Embedder, ModelFiles, open_tokenizer};
use hearth_train::baseline::{TagKind, TextKind, finetune_tags, finetune_texts, is_baseline};
use hearth_train::finetune::Outcome;
use hearth_train::finetune::embed::Pairs;
use hearth_train::finetune::run::finetune_classify;
use hearth_train::finetune::run_embed::finetune_embed;
use hearth_train::finetune::run_qa::finetune_qa;
use hearth_train::finetune::run_tag::finetune_tag;
use hearth_train::finetune::run_text::{Conversations, Texts, finetune_chat, finetune_complete};
use hearth_train::finetune::settings::Settings;
use hearth_train::neural::Answer;
use serde_json::json;
use std::path::{Path, PathBuf};

type Read<X> = hearth_data::Result<Loaded<X>>;

/// Teach a pretrained model a task from labelled examples
#[derive(clap::Args)]
pub struct Finetune {
    /// What is learnt
    #[arg(value_enum)]
    task: Task,
    /// The model to start from: a folder, a GGUF file, an adapter, or a name; for classify also naive-bayes, svm, cnn,
    /// rnn, lstm or gru, for tag hmm, crf, cnn, rnn, lstm or gru, which start from nothing
    #[arg(long, value_name = "M")]
    model: String,
    /// Examples: CSV, TSV, JSONL, JSON or Parquet, CoNLL for tag, SQuAD's JSON for qa, texts of any kind for complete;
    /// files, folders or globs
    #[arg(long, num_args = 1.., required = true, value_name = "F")]
    data: Vec<PathBuf>,
    /// Examples to judge by, instead of a share of --data
    #[arg(long, num_args = 1.., value_name = "F")]
    valid: Vec<PathBuf>,
    /// The folder that gets the model
    #[arg(long, value_name = "DIR", required_unless_present = "preview")]
    out: Option<PathBuf>,
    /// Print the first N examples as the model will see them, what carries loss in colour, and train nothing
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "3")]
    preview: Option<usize>,
    /// Which column is which, such as text=review or label=stars [default: by their names]
    #[arg(long, value_name = "ROLE=NAME", value_parser = column)]
    column: Vec<(String, String)>,
    /// What labels are: one, several or value [default: as they look]
    #[arg(long, value_name = "KIND", value_parser = kind)]
    labels: Option<Kind>,
    /// For complete: the share of texts that are turned into a prefix, a suffix and the middle to fill in
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "0.5", value_parser = share)]
    infill: Option<f64>,
    /// Leave out rows that can't be used, and count them
    #[arg(long)]
    skip_bad: bool,
    /// Refuse data with a row that can't be used; this is what happens without --skip-bad too
    #[arg(long, conflicts_with = "skip_bad")]
    strict: bool,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten, next_help_heading = "For qa")]
    rules: RulesArgs,
    #[command(flatten, next_help_heading = "For embed")]
    embed: EmbedArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Task {
    /// Texts, or pairs of them, to a label, to several, or to a value
    Classify,
    /// Words of sentences to a tag each, such as names in BIO
    Tag,
    /// Questions to the spans of passages that answer them
    Qa,
    /// Queries, and texts that belong to them, to vectors that lie close together
    Embed,
    /// Conversations: what the assistant says
    Chat,
    /// Texts: how they go on, or what belongs into a gap
    Complete,
}

/// A model from before the Transformer.
#[derive(Clone, Copy)]
enum Own {
    Texts(TextKind),
    Tags(TagKind),
}

fn column(text: &str) -> Result<(String, String), String> {
    let (role, name) = text.split_once('=').ok_or("expected ROLE=NAME, such as label=stars")?;
    Ok((role.to_owned(), name.to_owned()))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0 to 1".to_owned())
}

fn kind(name: &str) -> Result<Kind, String> {
    match name {
        "one" => Ok(Kind::Single),
        "several" => Ok(Kind::Multi),
        "value" => Ok(Kind::Regression),
        _ => Err("expected one, several or value".to_owned()),
    }
}

impl Finetune {
    pub fn run(self, terminal: &Terminal, seed: Option<u64>) -> Result<()> {
        self.refuse_flags_of_others()?;
        let own = self.own_kind()?;
        let settings = self.settings.settings(self.task, seed);
        settings.check()?;
        if let Some(count) = self.preview {
            if own.is_some() {
                return Err(Usage(format!("--preview: {} sees words, not tokens", self.model)).into());
            }
            return self.show(terminal, &settings, count);
        }
        let out = self.out.clone().unwrap_or_default();
        if out.join("config.json").exists() || is_baseline(&out) {
            let out = out.display();
            return Err(Usage(format!(
                "{out}: already holds a model\nhint: choose another --out, or remove it first"
            ))
            .into());
        }
        let outcome = match own {
            Some(kind) => self.learn_own(terminal, kind, seed, &out)?,
            None => self.learn(terminal, &settings, &out)?,
        };
        finish(terminal, &outcome, &out)
    }

    /// The kind of model from before the Transformer that --model names, unless there is a path of that name.
    fn own_kind(&self) -> Result<Option<Own>> {
        if Path::new(&self.model).exists() {
            return Ok(None);
        }
        let own = match self.task {
            Task::Classify => TextKind::of(&self.model).map(Own::Texts),
            Task::Tag => TagKind::of(&self.model).map(Own::Tags),
            _ => None,
        };
        let Some(own) = own else {
            let (texts, tags) = (TextKind::of(&self.model).is_some(), TagKind::of(&self.model).is_some());
            if !texts && !tags {
                return Ok(None);
            }
            let tasks = [("classify", texts), ("tag", tags)];
            let tasks: Vec<&str> = tasks.iter().filter(|(_, can)| *can).map(|(name, _)| *name).collect();
            return Err(Usage(format!("--model {}: only for {}", self.model, tasks.join(" and "))).into());
        };
        let is_network = matches!(own, Own::Texts(TextKind::Network(_)) | Own::Tags(TagKind::Network(_)));
        if let Some(flag) = self.settings.not_for_own(is_network, self.task == Task::Classify) {
            return Err(Usage(format!("{flag}: not for --model {}", self.model)).into());
        }
        Ok(Some(own))
    }

    fn learn_own(&self, terminal: &Terminal, own: Own, seed: Option<u64>, out: &Path) -> Result<Outcome> {
        let watch = &mut Watch::new(terminal);
        let options = &self.options();
        Ok(match own {
            Own::Texts(kind) => {
                let training = self.read(terminal, |paths| read_classify(paths, options, self.labels))?;
                let labels = training.examples.first().map(|example| example.label.kind());
                let heldout = self.read_heldout(terminal, |paths| read_classify(paths, options, labels))?;
                let settings = self.settings.own(Answer::Text, training.examples.len(), seed);
                finetune_texts(kind, training, heldout, &settings, out, watch)?
            }
            Own::Tags(kind) => {
                // Where words begin is worth a feature; no vocabulary has such tokens, so others can't have it.
                let options = &ReadOptions { keep_positions: true, ..self.options() };
                let (training, heldout) = self.read_both(terminal, |paths| read_tag(paths, options))?;
                let settings = self.settings.own(Answer::TagsInARow, training.examples.len(), seed);
                finetune_tags(kind, training, heldout, &settings, out, watch)?
            }
        })
    }

    fn learn(&self, terminal: &Terminal, settings: &Settings, out: &Path) -> Result<Outcome> {
        let watch = &mut Watch::new(terminal);
        let options = &self.options();
        let model = || resolve(&self.model, terminal);
        Ok(match self.task {
            Task::Classify => {
                let training = self.read(terminal, |paths| read_classify(paths, options, self.labels))?;
                // The same kind of labels, whatever these look like on their own.
                let kind = training.examples.first().map(|example| example.label.kind());
                let heldout = self.read_heldout(terminal, |paths| read_classify(paths, options, kind))?;
                let model = model()?;
                let settings = self.settings.over(settings, &model);
                finetune_classify(&model, training, heldout, &settings, out, watch)?
            }
            Task::Tag => {
                let (training, heldout) = self.read_both(terminal, |paths| read_tag(paths, options))?;
                let model = model()?;
                let settings = self.settings.over(settings, &model);
                finetune_tag(&model, training, heldout, &settings, out, watch)?
            }
            Task::Qa => {
                let (training, heldout) = self.read_both(terminal, |paths| read_qa(paths, options))?;
                finetune_qa(&model()?, training, heldout, settings, self.rules(settings), out, watch)?
            }
            Task::Embed => {
                let own = self.embed.settings();
                own.check()?;
                let (training, heldout) = self.read_both(terminal, |paths| read_pairs(paths, options))?;
                let model = model()?;
                let settings = self.settings.over(settings, &model);
                finetune_embed(&model, training, heldout, (&settings, &own), out, watch)?
            }
            Task::Chat => {
                let (training, heldout) = self.read_both(terminal, |paths| read_chat(paths, options))?;
                let model = model()?;
                let settings = self.settings.over_adapter(settings, &model)?;
                finetune_chat(&model, training, heldout, &settings, out, watch)?
            }
            Task::Complete => {
                let (training, heldout) = self.read_both(terminal, |paths| read_texts(paths, options))?;
                let infill = self.infill.unwrap_or(0.0);
                let model = model()?;
                let settings = self.settings.over_adapter(settings, &model)?;
                finetune_complete(&model, training, heldout, infill, &settings, out, watch)?
            }
        })
    }

    /// The first examples as the model will see them.
    fn show(&self, terminal: &Terminal, settings: &Settings, count: usize) -> Result<()> {
        let (options, limit) = (&self.options(), settings.max_tokens);
        let model = resolve(&self.model, terminal)?;
        let text = match self.task {
            Task::Classify => {
                let examples =
                    self.first(terminal, count, |paths| read_classify(paths, options, self.labels))?;
                preview::classify(&open_tokenizer(&model)?, &examples, limit)?
            }
            Task::Tag => {
                let examples = self.first(terminal, count, |paths| read_tag(paths, options))?;
                preview::tag(&open_tokenizer(&model)?, &examples, limit)?
            }
            Task::Qa => {
                let examples = self.first(terminal, count, |paths| read_qa(paths, options))?;
                preview::qa(&open_tokenizer(&model)?, &examples, limit, self.rules(settings).stride)?
            }
            Task::Embed => {
                let mut pairs = Pairs::of(&self.first(terminal, count, |paths| read_pairs(paths, options))?);
                let options = EmbedOptions { max_tokens: Some(limit), ..EmbedOptions::default() };
                let embedder = Embedder::open(&model, &options)?;
                pairs.encode(&embedder, &self.embed.settings().prompts(&embedder))?;
                preview::embed(&open_tokenizer(&model)?, &pairs)?
            }
            Task::Chat => {
                let files = ModelFiles::open(&model)?;
                let examples = self.first(terminal, count, |paths| read_chat(paths, options))?;
                let conversations = Conversations::of(files.tokenizer())?;
                let lessons = examples.iter().map(|example| conversations.lessons(example));
                let lessons = lessons.collect::<Result<Vec<_>, _>>()?.concat();
                preview::lessons(files.tokenizer(), &lessons, limit)?
            }
            Task::Complete => {
                let files = ModelFiles::open(&model)?;
                let examples = self.first(terminal, count, |paths| read_texts(paths, options))?;
                let texts = Texts {
                    tokenizer: files.tokenizer(),
                    special: files.special(),
                    infill: self.infill.unwrap_or(0.0),
                    limit,
                    seed: settings.seed,
                };
                let lessons = examples.iter().map(|example| texts.lessons(example));
                let lessons = lessons.collect::<Result<Vec<_>, _>>()?.concat();
                preview::lessons(files.tokenizer(), &lessons, limit)?
            }
        };
        terminal.result(text.trim_end(), &json!({ "preview": text }))
    }

    /// Refuses flags that only another task has.
    fn refuse_flags_of_others(&self) -> Result<()> {
        let mut given = vec![
            ("--labels", self.labels.is_some(), Task::Classify),
            ("--infill", self.infill.is_some(), Task::Complete),
            ("--stride and --max-answer", self.rules.any(), Task::Qa),
        ];
        given.extend(self.embed.given().map(|(flag, given)| (flag, given, Task::Embed)));
        match given.iter().find(|(_, given, task)| *given && *task != self.task) {
            Some((flag, _, task)) => {
                let name = task.to_possible_value().map(|value| value.get_name().to_owned());
                Err(Usage(format!("{flag}: only for {}", name.unwrap_or_default())).into())
            }
            None => Ok(()),
        }
    }

    fn options(&self) -> ReadOptions {
        ReadOptions {
            columns: self.column.iter().cloned().collect(),
            bad_rows: if self.skip_bad { BadRows::Skip } else { BadRows::Refuse },
            ..ReadOptions::default()
        }
    }

    fn rules(&self, settings: &Settings) -> AnswerRules {
        self.rules.over(AnswerRules::for_window(settings.max_tokens))
    }

    /// The examples of --data, and what there is to say of them.
    fn read<X>(&self, terminal: &Terminal, read: impl Fn(&[PathBuf]) -> Read<X>) -> Result<Loaded<X>> {
        let loaded = read(&self.data)?;
        told(terminal, &loaded);
        Ok(loaded)
    }

    /// Those of --valid, if it is given.
    fn read_heldout<X>(
        &self,
        terminal: &Terminal,
        read: impl Fn(&[PathBuf]) -> Read<X>,
    ) -> Result<Option<Loaded<X>>> {
        if self.valid.is_empty() {
            return Ok(None);
        }
        let loaded = read(&self.valid)?;
        told(terminal, &loaded);
        Ok(Some(loaded))
    }

    fn read_both<X>(
        &self,
        terminal: &Terminal,
        read: impl Fn(&[PathBuf]) -> Read<X>,
    ) -> Result<(Loaded<X>, Option<Loaded<X>>)> {
        Ok((self.read(terminal, &read)?, self.read_heldout(terminal, &read)?))
    }

    /// The first `count` examples of --data.
    fn first<X>(
        &self,
        terminal: &Terminal,
        count: usize,
        read: impl Fn(&[PathBuf]) -> Read<X>,
    ) -> Result<Vec<X>> {
        let mut examples = self.read(terminal, read)?.examples;
        examples.truncate(count);
        Ok(examples)
    }
}
