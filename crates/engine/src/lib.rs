//! A model with its tokenizer: text in, text out, synchronously.
//!
//! An [`Engine`] holds both. [`Engine::generate`] continues prompts, several at once, and hands out
//! text as it comes; a [`Sampler`] chooses each token. [`Engine::score_text`] tells how well the
//! model predicts a text.
//!
//! ```no_run
//! use hearth_engine::{Engine, Event, Request, Sampling};
//! use std::ops::ControlFlow;
//!
//! let mut engine = Engine::open("my-model".as_ref())?;
//! let mut request = Request::new("Once upon a time", 100);
//! request.sampling = Sampling { temperature: 0.8, top_p: 0.95, seed: 7, ..Sampling::default() };
//! request.stop = vec!["The end".into()];
//! engine.generate(&[request], |event| {
//!     if let Event::Text { text, .. } = event {
//!         print!("{text}");
//!     }
//!     ControlFlow::Continue(())
//! })?;
//! # Ok::<(), hearth_engine::EngineError>(())
//! ```
//!
//! Shape letters: V vocabulary, T tokens of a sequence.
#![forbid(unsafe_code)]

mod adapters;
mod answer;
mod beam;
mod classify;
mod constraint;
mod context_shift;
mod continuation;
mod conversation;
mod convert;
mod convert_encoder;
mod embed;
mod engine;
mod error;
mod framing;
mod generate;
mod gguf;
mod infill;
mod logprobs;
mod open_tokenizer;
mod pooling;
mod prefixes;
mod sampler;
mod schedule;
mod schema_place;
mod score;
mod special;
mod speculative;
mod speed;
mod stream;
mod tag;
mod template;
mod windows;

pub use answer::{AnswerRules, Answerer, Answers, KEPT_SPANS, Span, answer_windows};
pub use beam::{BeamSearch, Hypothesis};
pub use classify::{Classified, Classifier, TextPair, frame_texts, run_framed, to_scores};
pub use constraint::Constraint;
pub use conversation::{Lesson, frame_conversation, frame_document, frame_infill, with_template};
pub use convert::{Divergence, ImportanceMap, ModelFiles};
pub use convert_encoder::EncoderFiles;
pub use embed::{EmbedOptions, Embedder, Embeddings};
pub use engine::Engine;
pub use error::{EngineError, Result};
pub use framing::{Framed, Framing};
pub use generate::{Completion, Event, FinishReason, Prompt, Request, Timings};
pub use hearth_kernel::quant::BlockType;
pub use hearth_model::gguf::Mix;
pub use hearth_model::{CacheType, Problem, StoredType};
pub use infill::InfillTokens;
pub use logprobs::{Logprob, TokenLogprobs};
pub use open_tokenizer::open_tokenizer;
pub use pooling::Pooling;
pub use sampler::{Sampler, Sampling};
pub use schedule::{Finished, Schedule, ScheduleLimits, Times};
pub use score::{Score, ScoreProgress, TokenScore};
pub use special::SpecialRules;
pub use speculative::{Draft, Speculation};
pub use speed::{Speed, SpeedTest};
pub use tag::{FramedWords, Tagger, frame_words, highest, tag_pieces};
pub use template::{ChatTemplate, Message, Piece, Rendered};
pub use windows::{Asked, FramedQuestion, Window, frame_questions, question_room};
