//! Counters for Prometheus: requests, tokens, times, and what models do now.

use crate::app::App;
use crate::models::TextModel;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<[(&'static str, String); 2], Counter>,
    prompt_tokens: Counter,
    generated_tokens: Counter,
    seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("hearth");
        let requests = Family::default();
        let (prompt_tokens, generated_tokens) = (Counter::default(), Counter::default());
        // From a millisecond to half an hour.
        let seconds = Histogram::new(exponential_buckets(0.001, 4.0, 11));
        registry.register("requests", "Requests by route and status", Family::clone(&requests));
        registry.register("prompt_tokens", "Tokens of prompts", prompt_tokens.clone());
        registry.register("generated_tokens", "Tokens written", generated_tokens.clone());
        registry.register("request_seconds", "Seconds until an answer began", seconds.clone());
        Metrics { registry, requests, prompt_tokens, generated_tokens, seconds }
    }
}

impl Metrics {
    /// Counts tokens of prompts and of continuations.
    pub fn tokens(&self, (prompt, generated): (usize, usize)) {
        self.prompt_tokens.inc_by(prompt as u64);
        self.generated_tokens.inc_by(generated as u64);
    }

    /// All of it, in the format of OpenMetrics, with what `models` do now.
    pub fn text(&self, models: &[(&str, Arc<TextModel>)]) -> String {
        let mut text = String::new();
        // Writing into a string can't fail.
        let _ = encode(&mut text, &self.registry);
        let end = text.len() - if text.ends_with("# EOF\n") { "# EOF\n".len() } else { 0 };
        text.truncate(end);
        let gauges = [
            ("running", "Continuations under way"),
            ("waiting", "Requests that wait"),
            ("cache_bytes", "Bytes of keys and values"),
        ];
        for (i, (name, help)) in gauges.into_iter().enumerate() {
            let _ = writeln!(text, "# HELP hearth_{name} {help}.\n# TYPE hearth_{name} gauge");
            for (id, model) in models {
                let load = model.worker.load();
                let value = [&load.running, &load.waiting, &load.cache_bytes][i].load(Ordering::Relaxed);
                let id = id.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = writeln!(text, "hearth_{name}{{model=\"{id}\"}} {value}");
            }
        }
        text + "# EOF\n"
    }
}

/// Counts requests, and how long they wait for the beginning of their answer.
pub async fn measure(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let start = Instant::now();
    let response = next.run(request).await;
    let labels = [("route", route), ("status", response.status().as_u16().to_string())];
    app.metrics.requests.get_or_create(&labels).inc();
    app.metrics.seconds.observe(start.elapsed().as_secs_f64());
    response
}
