//! `hearth serve`: models behind an address.

use crate::failure::Usage;
use crate::interrupt;
use crate::model::resolve;
use crate::terminal::Terminal;
use anyhow::{Context, Result};
use clap::Parser;
use hearth_data::home;
use hearth_serve::app::App;
use hearth_serve::keys::Key;
use hearth_serve::metrics::Metrics;
use hearth_serve::models::{ModelOptions, Models};
use hearth_serve::{Conversations, DoorOptions, Guard, Keys, Runs, ServeOptions, Server, ServerLimits};
use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Serve models over HTTP, with OpenAI's interface
#[derive(clap::Args)]
pub struct Serve {
    /// Model files or folders, or names of the catalogue; NAME=PATH gives one another name. The first is opened at once,
    /// the others when they are asked for. The folder of an adapter whose model is among them shares its weights
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// The port; 0: any that is free
    #[arg(long, default_value_t = 8080, value_name = "N")]
    port: u16,
    /// The address to listen on; one that others can reach needs a key
    #[arg(long, default_value = "127.0.0.1", value_name = "H")]
    host: IpAddr,
    /// The key that requests have to carry [default: HEARTH_API_KEY, if it is set]
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// A file of keys, which `hearth key` makes
    #[arg(long, value_name = "F")]
    keys: Option<PathBuf>,
    /// A name under which this server may be asked, beside localhost; may be given several times
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// A page that may ask, by its scheme and host; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Rules on prompts and answers: a file
    #[arg(long, value_name = "F")]
    guard: Option<PathBuf>,
    /// The file that the page's conversations are kept in [default: conversations.sqlite in HEARTH_HOME]
    #[arg(long, value_name = "F")]
    conversations: Option<PathBuf>,
    /// Keep no conversations
    #[arg(long, conflicts_with = "conversations")]
    no_conversations: bool,
    /// A folder whose training runs the page shows, with those below it; may be given several times [default: .]
    #[arg(long, value_name = "DIR")]
    runs: Vec<PathBuf>,
    /// Most continuations of a model at once
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    parallel: u64,
    /// Most requests that wait for a model; more are refused
    #[arg(long, default_value_t = 256, value_name = "N")]
    queue: usize,
    /// Megabytes that the keys and values of a model may take
    #[arg(long, default_value_t = 2048, value_name = "MB")]
    cache_mb: usize,
    /// Tokens of an answer where a request doesn't say
    #[arg(long, default_value_t = 2048, value_name = "N")]
    max_tokens: usize,
    /// A request may take so long
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    time_limit: u64,
    /// Close a model after so long without a request; 0: never
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    close_after: u64,
}

/// Where a key may be that isn't on the command line, where others could see it.
const KEY_VARIABLE: &str = "HEARTH_API_KEY";

impl Serve {
    /// Serves these models and the runs in a folder, with all else as it usually is; on another port if the usual one
    /// is taken.
    pub fn of(models: &[String], runs: &Path) -> Self {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            serve: Serve,
        }
        let usual = Alone::parse_from(
            ["serve", "--runs"]
                .map(OsStr::new)
                .into_iter()
                .chain([runs.as_os_str()])
                .chain(std::iter::once(OsStr::new("--")).chain(models.iter().map(OsStr::new))),
        );
        let mut serve = usual.serve;
        if std::net::TcpListener::bind((serve.host, serve.port)).is_err() {
            serve.port = 0;
        }
        serve
    }

    pub fn run(self, terminal: &Terminal) -> Result<()> {
        let mut keys = self.keys.as_deref().map(Keys::read).transpose()?.unwrap_or_default();
        let given = self.api_key.clone().or_else(|| std::env::var(KEY_VARIABLE).ok());
        keys.extend(given.filter(|key| !key.is_empty()).map(|key| Key::of("api-key", &key)));
        if !self.host.is_loopback() && keys.is_empty() {
            return Err(Usage(format!(
                "--host {}: others could reach it, so requests need a key\nhint: --keys F with a file that hearth key \
                 makes, or {KEY_VARIABLE}",
                self.host
            ))
            .into());
        }
        let named = self.models.iter().map(|model| named(model, terminal)).collect::<Result<Vec<_>>>()?;
        let options = ModelOptions {
            together: self.parallel as usize,
            waiting: self.queue,
            cache_bytes: self.cache_mb << 20,
            close_after: (self.close_after > 0).then(|| Duration::from_secs(self.close_after)),
        };
        let conversations = self.conversations.clone().unwrap_or_else(|| home().join("conversations.sqlite"));
        let runs = if self.runs.is_empty() { vec![PathBuf::from(".")] } else { self.runs.clone() };
        let app = App {
            models: Models::new(named, options)?,
            options: ServeOptions {
                usual_tokens: self.max_tokens,
                time_limit: Duration::from_secs(self.time_limit.max(1)),
                ..ServeOptions::default()
            },
            keys: Keys::new(keys),
            door: DoorOptions {
                hosts: self.allow_host.clone(),
                origins: self.allow_origin.clone(),
                loopback: self.host.is_loopback(),
                ..DoorOptions::default()
            },
            guard: self.guard.as_deref().map(Guard::read).transpose()?.unwrap_or_default(),
            metrics: Metrics::default(),
            conversations: (!self.no_conversations)
                .then(|| Conversations::open(&conversations))
                .transpose()?,
            runs: Runs::new(runs),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.context("starting the server")?.block_on(self.listen(Arc::new(app), terminal))
    }

    async fn listen(&self, app: Arc<App>, terminal: &Terminal) -> Result<()> {
        let first = &app.models.entries()[0];
        if let Err(error) = app.models.open(first).await {
            return Err(Usage(format!("{}: {}", first.id, error.message)).into());
        }
        let address = SocketAddr::new(self.host, self.port);
        let server = Server::start(address, app.clone(), ServerLimits::default()).await;
        let server = server.with_context(|| format!("listening on {address}"))?;
        let names: Vec<&str> = app.models.entries().iter().map(|entry| entry.id.as_str()).collect();
        terminal.say(&format!("serving {} on http://{}", names.join(", "), server.address()?));
        server.run(interrupted()).await;
        terminal.say("stopped");
        Ok(())
    }
}

/// Until somebody asks to stop.
async fn interrupted() {
    while !interrupt::asked() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The name that a model is served under, and its path.
fn named(model: &str, terminal: &Terminal) -> Result<(String, PathBuf)> {
    if let Some((name, path)) = model.split_once('=')
        && !PathBuf::from(model).exists()
    {
        return Ok((name.to_owned(), resolve(path, terminal)?));
    }
    let path = resolve(model, terminal)?;
    // A path is called by its last part, a name of the catalogue by itself.
    let of_path = || {
        let name = if path.is_file() { path.file_stem() } else { path.file_name() };
        name.map(|name| name.to_string_lossy().into_owned())
    };
    let is_path = PathBuf::from(model).exists();
    let name = is_path.then(of_path).flatten().unwrap_or_else(|| model.to_owned());
    Ok((name, path))
}
