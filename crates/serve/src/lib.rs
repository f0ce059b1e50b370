//! HTTP: models behind OpenAI's interface, with continuous batching, keys and limits.
//!
//! [`Server::start`] listens; [`app::router`] is the same without sockets, for tests. Requests are handed to the
//! thread of their model ([`worker`]), which is the only place where anything is computed for texts; everything async
//! in Hearth is in this crate.
#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod conversations;
pub mod door;
pub mod error;
pub mod guard;
pub mod keys;
pub mod metrics;
pub mod models;
pub mod page;
pub mod runs;
pub mod server;
pub mod worker;

pub use app::{App, ServeOptions};
pub use conversations::Conversations;
pub use door::DoorOptions;
pub use guard::Guard;
pub use keys::Keys;
pub use models::{ModelOptions, Models};
pub use runs::Runs;
pub use server::{Server, ServerLimits};
