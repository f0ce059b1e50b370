//! Conversations: OpenAI's messages, ShareGPT's conversations, and Alpaca's instructions.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::columns::{Chosen, Role, check_roles, choose, find, missing, no_cell, text};
use super::table::{Row, TABLE_TYPES};
use super::{Collected, Example, Loaded, Place, ReadOptions, bad_row, read_table};
use crate::error::Result;
use crate::record::kind_of;

const MESSAGES: Role = Role { name: "messages", names: &["messages"] };
const CONVERSATIONS: Role = Role { name: "conversations", names: &["conversations", "conversation"] };
const SYSTEM: Role = Role { name: "system", names: &["system", "system_prompt"] };
const INSTRUCTION: Role = Role { name: "instruction", names: &["instruction", "prompt", "question"] };
const INPUT: Role = Role { name: "input", names: &["input", "context"] };
const OUTPUT: Role = Role { name: "output", names: &["output", "response", "completion", "answer"] };
const HISTORY: Role = Role { name: "history", names: &["history"] };

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChatRole {
    /// Whoever says how the assistant should be.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

impl ChatRole {
    fn of(name: &str) -> Option<Self> {
        match name {
            "system" | "developer" => Some(Self::System),
            "user" | "human" => Some(Self::User),
            "assistant" | "gpt" | "chatgpt" | "bard" | "bing" | "bot" | "model" => Some(Self::Assistant),
            _ => None,
        }
    }
}

impl fmt::Display for ChatRole {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        })
    }
}

/// What one of them says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who.
    pub role: ChatRole,
    /// What.
    pub text: String,
    /// Whether it is learnt from: an assistant's turn whose weight is not 0.
    pub trains: bool,
}

/// A conversation: perhaps a system turn, then user and assistant in turn, the assistant last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatExample {
    /// The turns; at least one trains.
    pub turns: Vec<Turn>,
    /// Where it came from.
    pub place: Place,
}

impl Example for ChatExample {
    fn place(&self) -> Place {
        self.place
    }

    /// What the user asks first: answers to one question stay on one side.
    fn holdout_text(&self) -> Cow<'_, str> {
        let first = self.turns.iter().find(|turn| turn.role == ChatRole::User);
        Cow::Borrowed(first.map_or("", |turn| &turn.text))
    }
}

/// The form of a file of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `{"messages": [{"role", "content", "weight"}]}`, the form of OpenAI's fine-tuning files.
    Messages,
    /// `{"conversations": [{"from", "value"}]}`.
    ShareGpt,
    /// `{"instruction", "input", "output"}`, with `system` and `history` as LLaMA-Factory has them.
    Alpaca,
}

/// Reads conversations from tables, mostly JSON lines or JSON.
///
/// The form of each file follows from its columns and stands in [`Source::form`](super::Source::form):
/// `messages` (OpenAI; a `weight` of 0 on an assistant's turn leaves it out of the loss, and content may
/// be a list of text parts), `conversations` (ShareGPT), or `instruction`, `input` and `output` (Alpaca;
/// the input follows the instruction on a line of its own; each pair of `history` is learnt from, too).
pub fn read_chat(paths: &[PathBuf], options: &ReadOptions) -> Result<Loaded<ChatExample>> {
    check_roles(options, &[&MESSAGES, &CONVERSATIONS, &INSTRUCTION, &INPUT, &OUTPUT, &SYSTEM, &HISTORY])?;
    let mut collected = Collected::of(paths, TABLE_TYPES)?;
    let nameless = options.columns.values().any(|column| column.starts_with('#'));
    for index in 0..collected.files.len() {
        let file = collected.files[index].clone();
        let table = read_table(&file, index, nameless)?;
        if table.columns.is_empty() {
            collected.add(table.form, table.bad, []);
            continue;
        }
        let (form, chosen) = choose_columns(&table.columns, options, &file)?;
        let examples: Vec<_> = table
            .rows
            .iter()
            .map(|row| example(row, form, &chosen).map_err(|problem| bad_row(&file, row.place.line, problem)))
            .collect();
        collected.used_columns(chosen.shown());
        let form = match form {
            Form::Messages => "OpenAI messages",
            Form::ShareGpt => "ShareGPT",
            Form::Alpaca => "Alpaca",
        };
        collected.add(format!("{form} in {}", table.form), table.bad, examples);
    }
    collected.finish(options)
}

fn choose_columns(columns: &[String], options: &ReadOptions, file: &Path) -> Result<(Form, Chosen)> {
    let pick = |role: &Role| -> Result<_> {
        Ok(choose(role, columns, options, file)?.map(|column| (role.name, column)))
    };
    let is_given = |role: &Role| options.columns.contains_key(role.name);
    let told = is_given(&INSTRUCTION) || is_given(&OUTPUT);
    let (form, wanted): (Form, &[(&Role, bool)]) = if !told && pick(&MESSAGES)?.is_some() {
        (Form::Messages, &[(&MESSAGES, true)])
    } else if !told && pick(&CONVERSATIONS)?.is_some() {
        (Form::ShareGpt, &[(&SYSTEM, false), (&CONVERSATIONS, true)])
    } else if told || INSTRUCTION.names.iter().any(|name| find(columns, name).is_some()) {
        let wanted =
            &[(&SYSTEM, false), (&HISTORY, false), (&INSTRUCTION, true), (&INPUT, false), (&OUTPUT, true)];
        (Form::Alpaca, wanted)
    } else {
        return Err(missing(&MESSAGES, None, columns, file));
    };
    let mut chosen = Vec::new();
    for &(role, needed) in wanted {
        match pick(role)? {
            Some(column) => chosen.push(column),
            None if needed => return Err(missing(role, None, columns, file)),
            None => {}
        }
    }
    Ok((form, Chosen(chosen)))
}

fn example(row: &Row, form: Form, chosen: &Chosen) -> Result<ChatExample, String> {
    let mut turns = Vec::new();
    let system = chosen.get(SYSTEM.name).and_then(|column| row.cells.get(column)).and_then(Value::as_str);
    if let Some(system) = system.filter(|system| !system.trim().is_empty()) {
        turns.push(turn(ChatRole::System, system));
    }
    match form {
        Form::Messages => messages(&row.cells, chosen.get(MESSAGES.name).unwrap_or_default(), &mut turns)?,
        Form::ShareGpt => {
            messages(&row.cells, chosen.get(CONVERSATIONS.name).unwrap_or_default(), &mut turns)?
        }
        Form::Alpaca => instruction(&row.cells, chosen, &mut turns)?,
    }
    check_order(&turns)?;
    Ok(ChatExample { turns, place: row.place })
}

fn turn(role: ChatRole, text: &str) -> Turn {
    Turn { role, text: text.to_string(), trains: role == ChatRole::Assistant }
}

/// Turns with `role` and `content`, or `from` and `value`: files of either form are often half the other.
fn messages(cells: &Map<String, Value>, column: &str, turns: &mut Vec<Turn>) -> Result<(), String> {
    let value = cells.get(column).ok_or_else(|| no_cell(cells, column))?;
    let Value::Array(messages) = value else {
        return Err(format!("{column:?} holds {}, expected an array of turns", kind_of(value)));
    };
    for (index, message) in messages.iter().enumerate() {
        let problem = |problem: String| format!("{column:?}[{index}]: {problem}");
        let field = |names: [&str; 2]| names.iter().find_map(|name| message.get(name));
        let role = field(["role", "from"]).ok_or_else(|| problem("no \"role\" or \"from\"".to_string()))?;
        let role = role.as_str().and_then(ChatRole::of).ok_or_else(|| {
            problem(format!("unknown role {role}: expected system, user or human, assistant or gpt"))
        })?;
        let content = field(["content", "value"]);
        let content = content.ok_or_else(|| problem("no \"content\" or \"value\"".to_string()))?;
        let text = content_text(content).map_err(problem)?;
        let weighs = match message.get("weight").filter(|weight| !weight.is_null()) {
            None => true,
            Some(weight) => match weight.as_f64() {
                Some(0.0) => false,
                Some(1.0) => true,
                _ => return Err(problem(format!("weight {weight}: expected 0 or 1"))),
            },
        };
        turns.push(Turn { role, text, trains: weighs && role == ChatRole::Assistant });
    }
    Ok(())
}

fn content_text(content: &Value) -> Result<String, String> {
    let parts = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        other => return Err(format!("the content is {}, expected text", kind_of(other))),
    };
    let mut text = String::new();
    for part in parts {
        match part.as_str().or_else(|| part.get("text")?.as_str()) {
            Some(part) => text.push_str(part),
            None => {
                let kind = part.get("type").and_then(Value::as_str).unwrap_or_else(|| kind_of(part));
                return Err(format!("a part of the content is of type {kind:?}, expected text"));
            }
        }
    }
    Ok(text)
}

fn instruction(cells: &Map<String, Value>, chosen: &Chosen, turns: &mut Vec<Turn>) -> Result<(), String> {
    let column = |role: &Role| chosen.get(role.name).unwrap_or_default();
    match cells.get(column(&HISTORY)) {
        None | Some(Value::Null) => {}
        Some(Value::Array(pairs)) => {
            for (index, pair) in pairs.iter().enumerate() {
                let (Some(asked), Some(answered)) =
                    (pair.get(0).and_then(Value::as_str), pair.get(1).and_then(Value::as_str))
                else {
                    return Err(format!("{:?}[{index}] is not a pair of texts", column(&HISTORY)));
                };
                turns.extend([turn(ChatRole::User, asked), turn(ChatRole::Assistant, answered)]);
            }
        }
        Some(other) => {
            return Err(format!("{:?} holds {}, expected an array", column(&HISTORY), kind_of(other)));
        }
    }
    let mut asked = text(cells, column(&INSTRUCTION))?.to_string();
    let input = cells.get(column(&INPUT)).and_then(Value::as_str).unwrap_or_default();
    if !input.trim().is_empty() {
        asked.push('\n');
        asked.push_str(input);
    }
    let answered = text(cells, column(&OUTPUT)).map_err(|problem| format!("no answer: {problem}"))?;
    turns.extend([turn(ChatRole::User, &asked), turn(ChatRole::Assistant, answered)]);
    Ok(())
}

fn check_order(turns: &[Turn]) -> Result<(), String> {
    let mut before = None;
    for (index, turn) in turns.iter().enumerate() {
        let number = index + 1;
        match (before, turn.role) {
            (None, ChatRole::System) => {}
            (_, ChatRole::System) => {
                return Err(format!(
                    "roles out of order: turn {number} is the system's, which may only be the first"
                ));
            }
            (None | Some(ChatRole::System), ChatRole::Assistant) => {
                return Err(format!("roles out of order: the assistant speaks first, in turn {number}"));
            }
            (Some(role), _) if role == turn.role => {
                return Err(format!("roles out of order: turns {index} and {number} are both the {role}'s"));
            }
            _ => {}
        }
        if turn.role != ChatRole::System && turn.text.trim().is_empty() {
            return Err(format!("turn {number}, the {}'s, is empty", turn.role));
        }
        before = Some(turn.role);
    }
    match before {
        Some(ChatRole::Assistant) if turns.iter().all(|turn| !turn.trains) => {
            Err("nothing to learn: all of the assistant's turns have weight 0".to_string())
        }
        Some(ChatRole::Assistant) => Ok(()),
        Some(role) => Err(format!("it ends with the {role}'s turn, expected the assistant's")),
        None => Err("no turn".to_string()),
    }
}
