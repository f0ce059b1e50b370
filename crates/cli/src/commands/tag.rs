//! `hearth tag`: a tag a word.

use crate::failure::Usage;
use crate::interrupt;
use crate::lines::{Lines, Output};
use crate::model::resolve;
use crate::terminal::Terminal;
use anyhow::Result;
use hearth_data::labelled::leave_off_positions;
use hearth_train::baseline::AnyTagger;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

/// Give each word its tag, by a model that `hearth finetune tag` made
///
/// Reads CoNLL: a word a line, a blank line after each sentence. What stands behind a word on its line stays, and the
/// tag is added after a tab.
#[derive(clap::Args)]
pub struct Tag {
    /// The model's folder
    model: String,
    /// Words, a line each, blank lines between sentences; - is stdin
    #[arg(long = "in", value_name = "F")]
    input: PathBuf,
    /// Where the tagged words go [default: stdout]
    #[arg(long = "out", value_name = "F")]
    output: Option<PathBuf>,
    /// Each line is a sentence, with spaces between its words; between all characters of Chinese text
    #[arg(long)]
    lines: bool,
}

/// Sentences that are tagged together.
const CHUNK: usize = 1024;

/// A sentence, with the lines that it came in.
#[derive(Default)]
struct Sentence {
    lines: Vec<String>,
    words: Vec<String>,
}

impl Tag {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        let path = resolve(&self.model, terminal)?;
        let mut tagger = AnyTagger::open(&path)?;
        let mut input = Lines::open(&self.input)?;
        let mut output = Output::open(self.output.clone())?;
        let (mut sentences, mut words, mut seconds) = (0, 0, 0.0);
        let mut ready: Vec<Sentence> = Vec::new();
        let mut open = Sentence::default();
        loop {
            let lines = input.next_few()?;
            let over = lines.is_empty();
            for line in lines {
                if self.lines {
                    let words = split_words(&line);
                    ready.push(Sentence { lines: words.clone(), words });
                } else if line.trim().is_empty() {
                    ready.push(std::mem::take(&mut open));
                } else {
                    let word = line.split(['\t', ' ']).next().unwrap_or_default();
                    if word.is_empty() {
                        let (file, number) = (self.input.display(), input.number());
                        return Err(Usage(format!(
                            "{file}, near line {number}: {line:?} begins with a space, expected a word"
                        ))
                        .into());
                    }
                    open.words.push(word.to_owned());
                    open.lines.push(line);
                }
            }
            if over && !open.words.is_empty() {
                ready.push(std::mem::take(&mut open));
            }
            if over || ready.len() >= CHUNK {
                let started = Instant::now();
                if matches!(tagger, AnyTagger::Pretrained(_)) {
                    // As they were in what it learnt from.
                    leave_off_positions(&mut ready.iter_mut().map(|s| &mut s.words).collect::<Vec<_>>());
                }
                let texts: Vec<&[String]> = ready.iter().map(|s| s.words.as_slice()).collect();
                let tags = tagger.tag(&texts, |_| interrupt::go_on())?;
                seconds += started.elapsed().as_secs_f64();
                output.add(&tagged(&ready, &tags, tagger.labels()))?;
                sentences += ready.len();
                words += ready.iter().map(|s| s.words.len()).sum::<usize>();
                ready.clear();
                terminal.live(&format!("tagging · {sentences} sentences"), 0, 0);
            }
            if over {
                break;
            }
        }
        output.end()?;
        let rate = if seconds > 0.0 { words as f64 / seconds } else { 0.0 };
        let json = json!({ "sentences": sentences, "words": words, "words_per_second": rate });
        terminal.result("", &json)
    }
}

/// Words between spaces; characters of scripts that have none between words are words of their own.
fn split_words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut joins = false;
    for c in line.chars() {
        let alone = hearth_train::classical::is_spaceless(c);
        if c.is_whitespace() {
            joins = false;
        } else if let Some(last) = words.last_mut().filter(|_| joins && !alone) {
            last.push(c);
        } else {
            words.push(c.to_string());
            joins = !alone;
        }
    }
    words
}

/// The lines with their tags.
fn tagged(sentences: &[Sentence], tags: &[Vec<usize>], labels: &[String]) -> String {
    let mut text = String::new();
    for (sentence, tags) in sentences.iter().zip(tags) {
        for (line, tag) in sentence.lines.iter().zip(tags) {
            text += line;
            text.push('\t');
            text += &labels[*tag];
            text.push('\n');
        }
        text.push('\n');
    }
    text
}
