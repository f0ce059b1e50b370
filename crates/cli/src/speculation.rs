//! Where drafts come from, for the commands that generate.

use crate::model::resolve;
use crate::terminal::Terminal;
use anyhow::Result;
use hearth_engine::{Draft, Engine, Speculation, Timings};

/// Speculative decoding: the same output in fewer passes.
#[derive(clap::Args)]
pub struct SpeculationArgs {
    /// Draft tokens with a smaller model of the same tokenizer; the output stays the same
    #[arg(long, value_name = "MODEL", group = "draft")]
    draft_model: Option<String>,
    /// Draft what followed when the last N tokens (or more) occurred before; the output stays the same
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        group = "draft",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    prompt_lookup: Option<u16>,
    /// Most tokens to draft at a time
    #[arg(
        long,
        value_name = "K",
        default_value_t = 16,
        requires = "draft",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    draft_max: u16,
}

impl SpeculationArgs {
    /// Has `engine` draft tokens, if that was asked for.
    pub fn set(&self, engine: &mut Engine, terminal: &Terminal) -> Result<()> {
        let draft = match (&self.draft_model, self.prompt_lookup) {
            (Some(name), _) => {
                let draft = Engine::open(&resolve(name, terminal)?)?;
                if draft.context() < engine.context() {
                    terminal.say(&format!(
                        "{name}: a context of {}; nothing is drafted beyond it",
                        draft.context()
                    ));
                }
                Draft::Model(Box::new(draft))
            }
            (None, Some(min_match)) => Draft::PromptLookup { min_match: min_match.into() },
            (None, None) => return Ok(()),
        };
        Ok(engine.set_speculation(Some(Speculation { draft, max_tokens: self.draft_max.into() }))?)
    }
}

/// What came of the drafts, for the line of statistics; nothing if there were none.
pub fn drafted(timings: &Timings) -> String {
    match timings.drafted_tokens {
        0 => String::new(),
        drafted => format!(", {} of {drafted} drafted tokens accepted", timings.accepted_tokens),
    }
}
