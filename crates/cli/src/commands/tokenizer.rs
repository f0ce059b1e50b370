//! `hearth tokenizer`: train one, turn text into ids and back.

use crate::failure::Usage;
use crate::interrupt;
use crate::model::resolve;
use crate::terminal::Terminal;
use anyhow::{Context, Result};
use hearth_data::{Corpus, CorpusOptions, DataError};
use hearth_engine::open_tokenizer;
use hearth_tokenizer::{BpeTrainer, END_OF_TEXT, PreTokenizer, TokenizerError, TrainProgress, train_chars};
use serde_json::json;
use std::io::{BufRead, BufReader, BufWriter, Read, Write, stdin, stdout};
use std::path::PathBuf;

/// Train a tokenizer, or use one
#[derive(clap::Args)]
pub struct Tokenizer {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Train byte-level BPE, or take single characters
    Train(Train),
    /// Print the ids of a text, space-separated, a line a line
    Encode(Convert),
    /// Turn lines of ids back into text
    Decode(Convert),
}

#[derive(clap::Args)]
struct Train {
    /// Text, Markdown or JSONL (also .gz, .zst): files, folders or globs
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    data: Vec<PathBuf>,
    /// The field that holds the text of JSONL documents
    #[arg(long)]
    field: Option<String>,
    /// Entries of the vocabulary, special tokens included
    #[arg(long, default_value_t = 8192, value_name = "N")]
    vocab_size: usize,
    /// How text is cut into words first: gpt-2, llama-bpe, qwen2; chars takes single characters
    #[arg(long, default_value = "qwen2", value_name = "NAME")]
    pre_tokenizer: String,
    /// A folder for tokenizer.json and tokenizer_config.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(clap::Args)]
struct Convert {
    /// A model folder, a tokenizer.json, or a name of the catalogue
    #[arg(long, value_name = "T")]
    model: String,
    /// The input; - is stdin
    file: PathBuf,
}

impl Tokenizer {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        match self.action {
            Action::Train(train) => train.run(terminal),
            Action::Encode(convert) => convert.encode(terminal),
            Action::Decode(convert) => convert.decode(terminal),
        }
    }
}

impl Train {
    fn run(self, terminal: &Terminal) -> Result<()> {
        let options = CorpusOptions { field: self.field.clone(), ..CorpusOptions::default() };
        let corpus = Corpus::open(&self.data, options)?;
        let total = corpus.bytes_on_disk();
        let texts = corpus.documents().map(|document| document.map(|d| d.text));
        let trained = if self.pre_tokenizer == "chars" {
            train_chars(texts, &[END_OF_TEXT.to_owned()])
        } else {
            let known = PreTokenizer::ALL;
            let pre_tokenizer =
                known.into_iter().find(|p| p.name() == self.pre_tokenizer).ok_or_else(|| {
                    let names = known.map(PreTokenizer::name).join(", ");
                    Usage(format!("--pre-tokenizer {}: expected {names} or chars", self.pre_tokenizer))
                })?;
            BpeTrainer::new(self.vocab_size, pre_tokenizer).train(texts, |progress| match progress {
                TrainProgress::Counting { bytes, .. } => terminal.progress("counting words", bytes, total),
                TrainProgress::Merging { tokens, of } => {
                    terminal.progress("merging pairs", tokens as u64, of as u64);
                }
            })
        };
        let tokenizer = trained.map_err(own_error)?;
        fs_err::create_dir_all(&self.out)?;
        tokenizer.save(&self.out)?;
        let size = tokenizer.vocab_size();
        terminal.say(&format!("{size} entries, in {}", self.out.display()));
        let out = self.out.display().to_string();
        terminal.result("", &json!({ "vocab_size": size, "sha256": tokenizer.hash(), "path": out }))
    }
}

/// An error of the corpus that came through the trainer, as itself.
fn own_error(error: TokenizerError) -> anyhow::Error {
    match error {
        TokenizerError::Text(inner) => match inner.downcast::<DataError>() {
            Ok(data) => (*data).into(),
            Err(inner) => TokenizerError::Text(inner).into(),
        },
        other => other.into(),
    }
}

impl Convert {
    fn input(&self) -> Result<Box<dyn Read>> {
        Ok(if self.file.as_os_str() == "-" {
            Box::new(stdin())
        } else {
            Box::new(fs_err::File::open(&self.file)?)
        })
    }

    /// Calls `convert` with each line, and writes what it gives.
    fn lines(&self, mut convert: impl FnMut(&str) -> Result<String>) -> Result<u64> {
        let mut input = BufReader::with_capacity(1 << 20, self.input()?);
        let mut out = BufWriter::new(stdout().lock());
        let (mut line, mut number) = (Vec::new(), 0);
        while !interrupt::asked() {
            line.clear();
            if input.read_until(b'\n', &mut line).with_context(|| self.file.display().to_string())? == 0 {
                break;
            }
            number += 1;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            let place = || format!("{}, line {number}", self.file.display());
            let text = std::str::from_utf8(&line).map_err(|e| {
                let at = e.valid_up_to();
                Usage(format!("{}: invalid UTF-8 at byte {at}\nhint: convert the file to UTF-8", place()))
            })?;
            let converted = convert(text).with_context(place)?;
            writeln!(out, "{converted}")?;
        }
        out.flush()?;
        Ok(number)
    }

    fn encode(self, terminal: &Terminal) -> Result<()> {
        let tokenizer = open_tokenizer(&resolve(&self.model, terminal)?)?;
        let (mut tokens, mut bytes) = (0, 0);
        let lines = self.lines(|line| {
            let ids = tokenizer.encode(line)?;
            (tokens, bytes) = (tokens + ids.len(), bytes + line.len());
            Ok(ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
        })?;
        terminal.result("", &json!({ "lines": lines, "tokens": tokens, "bytes": bytes }))
    }

    fn decode(self, terminal: &Terminal) -> Result<()> {
        let tokenizer = open_tokenizer(&resolve(&self.model, terminal)?)?;
        let lines = self.lines(|line| {
            let ids = line.split_whitespace().map(|word| {
                word.parse::<u32>()
                    .map_err(|_| Usage(format!("{word:?} is not a token id; expected a whole number")))
            });
            Ok(tokenizer.decode(&ids.collect::<Result<Vec<_>, _>>()?, false)?)
        })?;
        terminal.result("", &json!({ "lines": lines }))
    }
}
