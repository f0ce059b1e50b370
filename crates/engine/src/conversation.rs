//! Texts to learn from, token by token with what carries loss: conversations, of which the assistant's turns do,
//! and texts with a gap.

use crate::error::{EngineError, Result};
use crate::special::SpecialRules;
use crate::template::{ChatTemplate, Message, Piece, Rendered};
use hearth_tokenizer::Tokenizer;
use serde_json::json;

/// A text to learn from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lesson {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each whether it is to be learnt, given those before it.
    pub learnt: Vec<bool>,
}

impl Lesson {
    /// Adds tokens.
    pub fn push(&mut self, ids: &[u32], learnt: bool) {
        self.ids.extend_from_slice(ids);
        self.learnt.resize(self.ids.len(), learnt);
    }

    /// Tokens that carry loss; the first of a text can't.
    pub fn targets(&self) -> usize {
        self.learnt.iter().skip(1).filter(|&&learnt| learnt).count()
    }

    /// Leaves out what is past `limit` tokens.
    pub fn truncate(&mut self, limit: usize) {
        self.ids.truncate(limit);
        self.learnt.truncate(limit);
    }
}

/// How a conversation looks where a model brings no template: speakers by name, each answer ended by the token that
/// ends texts.
const PLAIN: &str = "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content | trim }}\
{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}\
{% if add_generation_prompt %}Assistant:{% endif %}";

/// The tokenizer as conversations need it: its own if it has a chat template, else with a plain one, `true` then.
///
/// # Errors
/// If it has neither a template nor a token that ends texts.
pub fn with_template(tokenizer: &Tokenizer) -> Result<(Tokenizer, bool)> {
    if tokenizer.chat_template().is_some() {
        return Ok((tokenizer.clone(), false));
    }
    if tokenizer.eos().is_none() {
        let problem =
            "the model has none, and no eos token that a plain one could end answers with\nhint: put a \
                       chat_template into its tokenizer_config.json"
                .to_owned();
        return Err(EngineError::Template { line: None, problem });
    }
    let mut config = tokenizer.config().clone();
    config.insert("chat_template".into(), json!(PLAIN));
    Ok((tokenizer.with_config(config), true))
}

/// What a conversation teaches: each turn with `learnt` from where the assistant begins to speak to the token that
/// ends the turn. Up to there its tokens are those of the prompt that stands before it at inference.
///
/// One lesson, or one for each turn to be learnt where the template writes earlier turns otherwise once others follow
/// (as Qwen3's leaves out what was thought).
///
/// # Errors
/// What the template refuses; if it begins an assistant's turn otherwise than where it lets the assistant speak next.
pub fn frame_conversation(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Message],
    learnt: &[bool],
) -> Result<Vec<Lesson>> {
    let whole = template.render(messages, false)?;
    let text = whole.text();
    let turns: Vec<usize> = (0..messages.len()).filter(|&i| learnt[i]).collect();
    let mut spans = Vec::new();
    for &i in &turns {
        let upto = template.render(&messages[..=i], false)?;
        if !text.starts_with(&upto.text()) {
            let one = |&i: &usize| {
                let upto = template.render(&messages[..=i], false)?;
                let span = turn_span(template, messages, i, &upto)?;
                lesson(tokenizer, &upto, &[span])
            };
            return turns.iter().map(one).collect();
        }
        spans.push(turn_span(template, messages, i, &upto)?);
    }
    Ok(vec![lesson(tokenizer, &whole, &spans)?])
}

/// Where turn `i` stands in the text `upto` it, from what is said to the token that ends it.
fn turn_span(
    template: &ChatTemplate,
    messages: &[Message],
    i: usize,
    upto: &Rendered,
) -> Result<(usize, usize)> {
    let prompt = template.render(&messages[..i], true)?.text();
    let text = upto.text();
    if !text.starts_with(&prompt) {
        let problem =
            "it begins an assistant's turn otherwise than where it lets the assistant speak next, so \
                       that what is learnt wouldn't be what is asked for"
                .to_owned();
        return Err(EngineError::Template { line: None, problem });
    }
    let (mut at, mut end) = (0, text.len());
    for piece in &upto.pieces {
        at += piece.text().len();
        // What a template puts behind the token that ends a turn is never generated.
        if matches!(piece, Piece::Special(_)) && at > prompt.len() && text[at..].trim().is_empty() {
            end = at;
        }
    }
    Ok((prompt.len(), end))
}

/// The tokens of a rendering, of which those in the spans are learnt.
fn lesson(tokenizer: &Tokenizer, rendered: &Rendered, spans: &[(usize, usize)]) -> Result<Lesson> {
    let mut lesson = Lesson::default();
    let mut from = 0;
    let end = rendered.text().len();
    let parts = spans.iter().flat_map(|&(start, end)| [(start, false), (end, true)]);
    for (to, learnt) in parts.chain([(end, false)]) {
        lesson.push(&rendered.tokens_between(tokenizer, from, to)?, learnt);
        from = to;
    }
    Ok(lesson)
}

/// A text with a gap, as a model that fills in is asked for it, then what belongs into the gap, and the token that
/// ends a text (Bavarian et al. 2022, section 3: prefix, suffix, middle). All of it is learnt, as there.
///
/// # Errors
/// If the tokenizer has no tokens for it, or a character has none.
pub fn frame_infill(
    tokenizer: &Tokenizer,
    special: &SpecialRules,
    [prefix, middle, suffix]: [&str; 3],
) -> Result<Lesson> {
    let mut lesson = Lesson::default();
    lesson.push(special.prepend.as_slice(), false);
    lesson.push(&special.infill.prompt(tokenizer, prefix, suffix)?, true);
    lesson.push(&special.infill.plain_tokens(tokenizer, middle, true)?, true);
    lesson.push(tokenizer.eos().as_slice(), true);
    Ok(lesson)
}

/// A whole text, with the tokens that begin and end one; all of it is learnt.
///
/// # Errors
/// If a character has no token.
pub fn frame_document(tokenizer: &Tokenizer, special: &SpecialRules, text: &str) -> Result<Lesson> {
    let mut lesson = Lesson::default();
    lesson.push(special.prepend.as_slice(), false);
    lesson.push(&tokenizer.encode(text)?, true);
    lesson.push(tokenizer.eos().as_slice(), true);
    Ok(lesson)
}
