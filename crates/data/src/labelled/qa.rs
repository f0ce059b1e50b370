//! Questions on passages, with answers that stand in them: SQuAD's files and CMRC's, and flat tables.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::columns::{Chosen, Role, check_roles, choose, missing, text};
use super::table::{Lines, Row, TABLE_TYPES, json_problem};
use super::{Collected, Example, Loaded, Place, ReadOptions, bad_row, read_table};
use crate::corpus::extension;
use crate::error::{DataError, Result};
use crate::text::TextReader;

const ID: Role = Role { name: "id", names: &["id", "qid", "query_id", "question_id"] };
const QUESTION: Role = Role { name: "question", names: &["question", "query", "query_text", "问题"] };
const CONTEXT: Role = Role {
    name: "context",
    names: &["context", "passage", "context_text", "paragraph", "document", "text", "原文"],
};
const ANSWERS: Role = Role { name: "answers", names: &["answers", "answer", "answer_text", "答案"] };
const START: Role = Role { name: "start", names: &["answer_start", "start"] };
const IMPOSSIBLE: Role = Role { name: "impossible", names: &["is_impossible", "impossible"] };
/// Characters of the passage that a message about a misplaced answer shows.
const SHOWN_CHARS: usize = 20;

/// A question on a passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QaExample {
    /// Its name in the file, or its place there.
    pub id: String,
    /// The question; not empty.
    pub question: String,
    /// The passage, shared by all questions on it.
    pub context: Arc<str>,
    /// Answers, each as good as the others; none if the passage does not hold one.
    pub answers: Vec<Answer>,
    /// Where it came from.
    pub place: Place,
}

/// An answer: a span of the passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its text, which stands in the passage at `start`.
    pub text: String,
    /// Where it begins: characters (Unicode code points, as in SQuAD's files) before it.
    pub start: usize,
}

impl Answer {
    /// Where it stands in its passage, in bytes.
    pub fn bytes(&self, context: &str) -> Range<usize> {
        let start = context.char_indices().nth(self.start).map_or(context.len(), |(byte, _)| byte);
        start..start + self.text.len()
    }
}

impl Example for QaExample {
    fn place(&self) -> Place {
        self.place
    }

    fn holdout_text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.context)
    }
}

/// Reads questions, from the JSON of SQuAD 1.1 and 2.0 or CMRC 2018, or from tables with a question in a row.
///
/// Of tables the roles are `question`, `context`, `answers`, and if there are such columns `id`, `start` and
/// `impossible`. The answers may be `{"text": […], "answer_start": […]}`, a list of
/// `{"text": …, "answer_start": …}`, a list of texts, or a text; without an offset an answer is taken where
/// the passage has it first. An empty list means that the passage holds no answer.
pub fn read_qa(paths: &[PathBuf], options: &ReadOptions) -> Result<Loaded<QaExample>> {
    read(paths, options, true)
}

/// Reads questions as [`read_qa`] does, to be answered: answers that a file has are left alone, and none is needed.
pub fn read_questions(paths: &[PathBuf], options: &ReadOptions) -> Result<Loaded<QaExample>> {
    read(paths, options, false)
}

fn read(paths: &[PathBuf], options: &ReadOptions, with_answers: bool) -> Result<Loaded<QaExample>> {
    check_roles(options, &[&ID, &QUESTION, &CONTEXT, &ANSWERS, &START, &IMPOSSIBLE])?;
    let mut collected = Collected::of(paths, TABLE_TYPES)?;
    for index in 0..collected.files.len() {
        let file = collected.files[index].clone();
        if !nested(&file, index, with_answers, &mut collected)? {
            flat(&file, index, options, with_answers, &mut collected)?;
        }
    }
    collected.finish(options)
}

#[derive(Deserialize)]
struct Squad<'a> {
    #[serde(borrow)]
    data: Vec<Article<'a>>,
}

#[derive(Deserialize)]
struct Article<'a> {
    #[serde(borrow)]
    paragraphs: Vec<Paragraph<'a>>,
}

#[derive(Deserialize)]
struct Paragraph<'a> {
    #[serde(alias = "context_text")]
    context: String,
    #[serde(borrow)]
    qas: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Question {
    #[serde(alias = "query_id")]
    id: Option<Value>,
    #[serde(alias = "query_text")]
    question: String,
    answers: Option<Value>,
    #[serde(default)]
    is_impossible: bool,
}

/// Reads a file of articles, paragraphs and questions; false if it isn't one.
fn nested(
    file: &Path,
    index: usize,
    with_answers: bool,
    collected: &mut Collected<QaExample>,
) -> Result<bool> {
    if !matches!(extension(file).as_deref(), Some("json") | None) {
        return Ok(false);
    }
    let json = TextReader::open(file)?.rest()?;
    let misfit = |error: serde_json::Error| {
        let problem = match error.classify() {
            serde_json::error::Category::Data => format!("not as in SQuAD's files: {error}"),
            _ => json_problem(&error),
        };
        DataError::record(file, error.line() as u64, problem)
    };
    let mut paragraphs: Vec<(String, Paragraph<'_>)> = Vec::new();
    let form = if json.contains("\"paragraphs\"") {
        let squad: Squad<'_> = serde_json::from_str(&json).map_err(misfit)?;
        for (a, article) in squad.data.into_iter().enumerate() {
            let numbered = article.paragraphs.into_iter().enumerate();
            paragraphs
                .extend(numbered.map(|(p, paragraph)| (format!("data[{a}].paragraphs[{p}]"), paragraph)));
        }
        "SQuAD"
    } else if json.contains("\"qas\"") && json.trim_start().starts_with('[') {
        let passages: Vec<Paragraph<'_>> = serde_json::from_str(&json).map_err(misfit)?;
        paragraphs.extend(passages.into_iter().enumerate().map(|(p, passage)| (format!("[{p}]"), passage)));
        "CMRC"
    } else {
        return Ok(false);
    };
    let mut lines = Lines::of(&json);
    let mut examples = Vec::new();
    for (path, Paragraph { context, qas }) in paragraphs {
        let context: Arc<str> = Arc::from(context);
        for (q, raw) in qas.into_iter().enumerate() {
            let place = Place { file: index, line: lines.of_value(raw) };
            let path = format!("{path}.qas[{q}]");
            let asked: serde_json::Result<Question> = serde_json::from_str(raw.get());
            let example = match asked {
                Err(error) => Err(format!("{path}: {}", without_place(&error))),
                Ok(question) => {
                    let id = question.id.as_ref().and_then(name);
                    let shown = id.as_ref().map_or(path.clone(), |id| format!("{path} ({id})"));
                    let Question { question, answers, is_impossible, .. } = question;
                    let id = id.unwrap_or(path);
                    let given = Given { answers: answers.as_ref(), start: None, is_impossible };
                    let given = with_answers.then_some(given);
                    example(id, &question, Arc::clone(&context), given, place)
                        .map_err(|problem| format!("{shown}: {problem}"))
                }
            };
            examples.push(example.map_err(|problem| bad_row(file, place.line, problem)));
        }
    }
    collected.add(form, Vec::new(), examples);
    Ok(true)
}

/// An error without its place, which counts from the start of the value.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.rsplit_once(" at line ").map_or(message.clone(), |(message, _)| message.to_string())
}

fn name(id: &Value) -> Option<String> {
    match id {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

fn flat(
    file: &Path,
    index: usize,
    options: &ReadOptions,
    with_answers: bool,
    collected: &mut Collected<QaExample>,
) -> Result<()> {
    let table = read_table(file, index, options.columns.values().any(|column| column.starts_with('#')))?;
    let mut chosen = Vec::new();
    for (role, needed) in [
        (&ID, false),
        (&QUESTION, true),
        (&CONTEXT, true),
        (&ANSWERS, true),
        (&START, false),
        (&IMPOSSIBLE, false),
    ] {
        if !with_answers && [ANSWERS.name, START.name, IMPOSSIBLE.name].contains(&role.name) {
            continue;
        }
        match choose(role, &table.columns, options, file)? {
            Some(column) => chosen.push((role.name, column)),
            None if needed && !table.columns.is_empty() => {
                return Err(missing(role, None, &table.columns, file));
            }
            None => {}
        }
    }
    let chosen = Chosen(chosen);
    // Questions on one passage mostly stand together.
    let mut context: Arc<str> = Arc::from("");
    let examples: Vec<_> = table
        .rows
        .iter()
        .map(|row| {
            from_row(row, &chosen, with_answers, &mut context)
                .map_err(|problem| bad_row(file, row.place.line, problem))
        })
        .collect();
    collected.used_columns(chosen.shown());
    collected.add(table.form, table.bad, examples);
    Ok(())
}

fn from_row(
    row: &Row,
    chosen: &Chosen,
    with_answers: bool,
    context: &mut Arc<str>,
) -> Result<QaExample, String> {
    let column = |role: &Role| chosen.get(role.name).unwrap_or_default();
    let cell = |role: &Role| row.cells.get(column(role));
    let question = text(&row.cells, column(&QUESTION))?;
    let passage = text(&row.cells, column(&CONTEXT))?;
    if **context != *passage {
        *context = Arc::from(passage);
    }
    let is_impossible = match cell(&IMPOSSIBLE) {
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true") || text == "1",
        value => value == Some(&Value::Bool(true)),
    };
    let id = cell(&ID).and_then(name).unwrap_or_else(|| format!("{}:{}", row.place.file, row.place.line));
    // Cells of CSV may hold what JSON would have had.
    let parsed = cell(&ANSWERS).and_then(Value::as_str).filter(|text| text.starts_with(['{', '[']));
    let parsed: Option<Value> = parsed.and_then(|text| serde_json::from_str(text).ok());
    let answers = parsed.as_ref().or(cell(&ANSWERS));
    let given = with_answers.then_some(Given { answers, start: cell(&START), is_impossible });
    example(id, question, Arc::clone(context), given, row.place)
}

/// What a file says about the answers of a question.
struct Given<'a> {
    answers: Option<&'a Value>,
    start: Option<&'a Value>,
    is_impossible: bool,
}

/// An example; without answers if none are to be read.
fn example(
    id: String,
    question: &str,
    context: Arc<str>,
    given: Option<Given>,
    place: Place,
) -> Result<QaExample, String> {
    if question.trim().is_empty() {
        return Err("the question is empty".to_string());
    }
    if context.trim().is_empty() {
        return Err("the passage is empty".to_string());
    }
    let found = match given {
        None => Vec::new(),
        Some(Given { answers: Some(answers), start, is_impossible }) => {
            let found = spans(answers, start)?;
            if is_impossible && !found.is_empty() {
                return Err("it has an answer, but says that the passage holds none".to_string());
            }
            found
        }
        Some(Given { is_impossible: true, .. }) => Vec::new(),
        Some(_) => return Err("no \"answers\"".to_string()),
    };
    let answers = found.into_iter().map(|(text, start)| locate(&context, text, start));
    let answers = answers.collect::<Result<_, String>>()?;
    Ok(QaExample { id, question: question.to_string(), context, answers, place })
}

/// Texts of answers and their offsets, out of the forms that they come in.
fn spans<'a>(answers: &'a Value, start: Option<&'a Value>) -> Result<Vec<(&'a str, Option<usize>)>, String> {
    let problem = || format!("answers of an unknown form: {answers}");
    Ok(match answers {
        Value::Null => Vec::new(),
        Value::String(text) if text.trim().is_empty() => Vec::new(),
        Value::String(text) => vec![(text.as_str(), offset(start)?)],
        Value::Array(parts) => {
            let mut spans = Vec::new();
            for part in parts {
                spans.push(match part {
                    Value::String(text) => (text.as_str(), None),
                    part => {
                        let text = part.get("text").and_then(Value::as_str).ok_or_else(problem)?;
                        (text, offset(part.get("answer_start"))?)
                    }
                });
            }
            spans
        }
        Value::Object(fields) => match (fields.get("text"), fields.get("answer_start")) {
            (Some(Value::Array(texts)), Some(Value::Array(starts))) => {
                if texts.len() != starts.len() {
                    return Err(format!("{} answers but {} offsets", texts.len(), starts.len()));
                }
                let pairs = texts.iter().zip(starts);
                let pairs =
                    pairs.map(|(text, start)| Ok((text.as_str().ok_or_else(problem)?, offset(Some(start))?)));
                pairs.collect::<Result<_, String>>()?
            }
            (Some(Value::Array(texts)), None) => {
                let texts = texts.iter().map(|text| Ok((text.as_str().ok_or_else(problem)?, None)));
                texts.collect::<Result<_, String>>()?
            }
            (Some(Value::String(text)), start) => vec![(text.as_str(), offset(start)?)],
            _ => return Err(problem()),
        },
        _ => return Err(problem()),
    })
}

/// An offset; less than 0 and nothing at all mean that it is unknown.
fn offset(value: Option<&Value>) -> Result<Option<usize>, String> {
    let number = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_i64(),
    };
    let number: i64 = number.ok_or_else(|| "an offset of an answer is not a whole number".to_string())?;
    Ok(usize::try_from(number).ok())
}

/// The answer at its offset, or where the passage has it first if there is none.
fn locate(context: &str, text: &str, start: Option<usize>) -> Result<Answer, String> {
    if text.trim().is_empty() {
        return Err("an answer is empty".to_string());
    }
    let elsewhere = || context.find(text).map(|at| context[..at].chars().count());
    let Some(start) = start else {
        let start = elsewhere().ok_or_else(|| format!("the answer {text:?} is not in the passage"))?;
        return Ok(Answer { text: text.to_string(), start });
    };
    let byte = context.char_indices().nth(start).map_or(context.len(), |(byte, _)| byte);
    if context[byte..].starts_with(text) {
        return Ok(Answer { text: text.to_string(), start });
    }
    let there: String = context[byte..].chars().take(text.chars().count().min(SHOWN_CHARS)).collect();
    let there =
        if there.is_empty() { "the passage has ended".to_string() } else { format!("it has {there:?}") };
    let whereabouts = match elsewhere() {
        Some(at) => format!("the answer is at character {at}"),
        None => "the answer is nowhere in it".to_string(),
    };
    Err(format!(
        "the answer {text:?} is not in the passage at character {start}, where {there}; {whereabouts}"
    ))
}
