//! Tags of tokens and the spans that they mark: the schemes, which one some tags are in, what breaks it, and the way
//! from tags to spans and back. Readers check files with it, metrics count spans with it.

mod scheme;
mod spans;

pub use scheme::{Position, Scheme, Violation};
pub use spans::{Span, spans, strict_spans};
