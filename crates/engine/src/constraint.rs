//! Output held to a JSON schema, a regular expression or a grammar.
//!
//! The parser is `llguidance`'s: an Earley parser over a lexer of derivatives, walked along a trie of the
//! tokenizer's entries. Before each draw it says which tokens can go on, and the others are ruled out; a token
//! that ends a text is among them only where the output is complete. What is drawn is the model's
//! distribution, restricted: nothing is forced past the sampler.

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::schema_place::place_of_problem;
use llguidance::api::{StopReason, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use std::sync::Arc;

/// Longest token, in bytes, that the trie takes; a longer one is never part of constrained output.
const MAX_TOKEN_BYTES: usize = 1000;

/// What a continuation must be, from its first byte to its last.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// JSON that a schema (draft 2020-12 and older) describes.
    JsonSchema(Value),
    /// Text that matches as a whole, in the syntax of the `regex` crate, without look-around.
    Regex(String),
    /// Text of a context-free grammar in Lark's syntax, which begins at the rule `start`.
    Grammar(String),
}

impl Constraint {
    /// What an error calls it.
    fn kind(&self) -> &'static str {
        match self {
            Constraint::JsonSchema(_) => "JSON schema",
            Constraint::Regex(_) => "regular expression",
            Constraint::Grammar(_) => "grammar",
        }
    }

    fn grammar(&self) -> TopLevelGrammar {
        match self {
            Constraint::JsonSchema(schema) => TopLevelGrammar::from_json_schema(schema.clone()),
            Constraint::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Constraint::Grammar(lark) => TopLevelGrammar::from_lark(lark.clone()),
        }
    }
}

/// Makes parsers for one tokenizer.
pub(crate) struct Grammars {
    factory: ParserFactory,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    fn new(engine: &Engine) -> Result<Self> {
        let (tokenizer, ends) = (engine.tokenizer(), &engine.special().ends);
        let entries = tokenizer.vocab_size();
        let word = |id: u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            if tokenizer.is_special(id) || ends.contains(&id) {
                // The mark of a token that stands for no text.
                return [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat();
            }
            if bytes.len() > MAX_TOKEN_BYTES { Vec::new() } else { bytes.to_vec() }
        };
        let words: Vec<Vec<u8>> = (0..entries as u32).map(word).collect();
        let ends: Vec<u32> = ends.iter().copied().filter(|&id| (id as usize) < entries).collect();
        let info = TokRxInfo::new(entries as u32, ends.first().copied().unwrap_or(INVALID_TOKEN));
        let mut trie = TokTrie::from(&info, &words);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|error| problem("tokenizer", &error))?;
        factory.quiet().limits_mut().verbose_errors = false;
        Ok(Grammars { factory })
    }

    /// A parser at the beginning of the output.
    fn held(&self, constraint: &Constraint) -> Result<Held> {
        let parser = self.factory.create_parser(constraint.grammar()).map_err(|error| match constraint {
            Constraint::JsonSchema(schema) => {
                let fails = |schema: &Value| {
                    self.factory.create_parser(TopLevelGrammar::from_json_schema(schema.clone())).is_err()
                };
                EngineError::Constraint {
                    kind: constraint.kind(),
                    problem: format!("at {}: {}", place_of_problem(schema, &fails), first_words(&error)),
                }
            }
            _ => problem(constraint.kind(), &error),
        })?;
        Ok(Held { matcher: Matcher::new(Ok(parser)), kind: constraint.kind(), masked: Vec::new() })
    }
}

impl Engine {
    /// A parser for a request's constraint.
    pub(crate) fn held_to(&self, constraint: &Constraint) -> Result<Held> {
        if let Some(grammars) = self.grammars.get() {
            return grammars.held(constraint);
        }
        let grammars = Grammars::new(self)?;
        self.grammars.get_or_init(|| grammars).held(constraint)
    }
}

/// A constraint, and how far a continuation has got in it.
#[derive(Clone)]
pub(crate) struct Held {
    matcher: Matcher,
    kind: &'static str,
    masked: Vec<f32>,
}

impl Held {
    /// The logits with minus infinity for tokens that can't go on; none if nothing can, and needn't.
    pub(crate) fn mask(&mut self, logits: &[f32]) -> Result<Option<&[f32]>> {
        let complete = self.matcher.is_accepting().map_err(|error| problem(self.kind, &error))?;
        let allowed = match self.matcher.compute_mask() {
            Ok(allowed) => allowed,
            Err(error) => {
                let nothing = first_words(&error) == StopReason::NoExtensionBias.to_string();
                return match nothing {
                    true if complete => Ok(None),
                    true => Err(problem(self.kind, &"no token of the vocabulary can go on")),
                    false => Err(problem(self.kind, &error)),
                };
            }
        };
        self.masked.clear();
        self.masked.extend(logits.iter().zip(0..).map(|(&logit, id)| {
            // What isn't finite is the sampler's to judge.
            if allowed.is_allowed(id) || !logit.is_finite() { logit } else { f32::NEG_INFINITY }
        }));
        Ok(Some(&self.masked))
    }

    /// Goes on with a token that the mask allowed.
    pub(crate) fn take(&mut self, token: u32) -> Result<()> {
        self.matcher.consume_token(token).map_err(|error| problem(self.kind, &error))
    }

    /// Whether the output is complete and nothing may follow.
    pub(crate) fn is_over(&self) -> bool {
        self.matcher.is_stopped()
    }
}

fn problem(kind: &'static str, error: &impl std::fmt::Display) -> EngineError {
    EngineError::Constraint { kind, problem: first_words(error) }
}

/// The message without what follows it about the parser's state, and without the rule that a regular
/// expression is wrapped in.
fn first_words(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let text = text.split("\n<").next().unwrap_or_default();
    let wrapped = text.strip_prefix("at 1(8): ").filter(|rest| rest.contains("\n   1 | start: /"));
    match wrapped {
        Some(rest) => rest.split("\n   1 | start: /").next().unwrap_or_default().to_owned(),
        None => text.trim_end().to_owned(),
    }
}
