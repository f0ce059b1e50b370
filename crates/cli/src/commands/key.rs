//! `hearth key`: keys for a server, kept as hashes.

use crate::failure::Usage;
use crate::terminal::Terminal;
use anyhow::Result;
use hearth_serve::keys::{Key, Keys, Scope};
use hearth_tokenizer::replace_file;
use serde_json::json;
use std::path::PathBuf;

/// Add a key to a file for `hearth serve --keys`, and print it: it is kept nowhere else
#[derive(clap::Args)]
pub struct KeyCommand {
    /// Whose key it is
    name: String,
    /// The file, which holds hashes of keys
    #[arg(long, value_name = "F")]
    keys: PathBuf,
    /// Only for the counters at /metrics
    #[arg(long)]
    metrics: bool,
    /// Most requests a minute [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    per_minute: Option<u32>,
}

impl KeyCommand {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        let mut keys = if self.keys.exists() { Keys::read(&self.keys)? } else { Vec::new() };
        if keys.iter().any(|key| key.name == self.name) {
            let file = self.keys.display();
            return Err(Usage(format!("{file}: there is a key of {:?} already", self.name)).into());
        }
        let scopes = if self.metrics { vec![Scope::Metrics] } else { vec![Scope::Models, Scope::Metrics] };
        let (key, words) = Key::new(&self.name, scopes, self.per_minute);
        keys.push(key);
        replace_file(&self.keys, Keys::text(keys)?.as_bytes())?;
        terminal.result(&words, &json!({ "key": words, "name": self.name }))
    }
}
