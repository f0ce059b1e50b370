//! Cutting by regular expressions that the pipeline has no splitter of its own for.
//!
//! The pipeline runs the well-known expressions as hand-made splitters, and refuses any other when
//! it encodes. For those its steps are taken here one by one, with the expression compiled.

use std::sync::Mutex;

use tokenizers::Error;
use tokenizers::pipeline::{
    Model as _, PipelineModel, PipelinePreTokenizer, PipelineToken, PipelineTokenizer, PreTokenizer as _,
    PreTokenizerScratch, Segment, Span, SpecialSegmentIterator, normalize_all,
};
use tokenizers::pre_tokenizers::sequence::PipelineSequence;
use tokenizers::pre_tokenizers::split::{Search, Split};

type ModelScratch = <PipelineModel as tokenizers::pipeline::Model>::Scratch;

/// A pre-tokenizer whose regular expressions are compiled.
pub(crate) struct Cutter {
    cuts: PipelinePreTokenizer,
    /// What encoding works in; each thread takes one and gives it back.
    idle: Mutex<Vec<Scratch>>,
}

struct Scratch {
    cuts: PreTokenizerScratch,
    spans: Vec<Span>,
    model: ModelScratch,
}

impl Cutter {
    /// A cutter, if the pipeline needs one.
    pub(crate) fn of(pipeline: &PipelineTokenizer) -> Result<Option<Self>, Error> {
        let members = match pipeline.get_pre_tokenizer() {
            PipelinePreTokenizer::Sequence(sequence) if sequence.is_deepseek() => return Ok(None),
            PipelinePreTokenizer::Sequence(sequence) => sequence.pre_tokenizers(),
            one => std::slice::from_ref(one),
        };
        let lacks = |cut: &PipelinePreTokenizer| match cut {
            PipelinePreTokenizer::Split(split) => {
                matches!(split.search, Search::Unavailable) && split.grammar().is_none()
            }
            _ => false,
        };
        if !members.iter().any(lacks) {
            return Ok(None);
        }
        let compiled = members.iter().map(|cut| {
            Ok(match cut {
                PipelinePreTokenizer::Split(split) => {
                    let split = Split::new(split.pattern.clone(), split.behavior, split.invert)?;
                    PipelinePreTokenizer::Split(split)
                }
                other => other.clone(),
            })
        });
        let compiled = compiled.collect::<Result<Vec<_>, Error>>()?;
        let cuts = PipelinePreTokenizer::Sequence(PipelineSequence::new(compiled));
        Ok(Some(Self { cuts, idle: Mutex::default() }))
    }

    /// Appends the ids of `text`, as the pipeline would: added tokens are taken out, the rest is
    /// normalized, cut into words and each of those encoded.
    pub(crate) fn encode_into(
        &self,
        pipeline: &PipelineTokenizer,
        text: &str,
        special_as_text: bool,
        out: &mut Vec<PipelineToken>,
    ) -> Result<(), Error> {
        let idle = || self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut scratch = idle().pop().unwrap_or_else(|| Scratch {
            cuts: PreTokenizerScratch::default(),
            spans: Vec::new(),
            model: pipeline.get_model().init_scratch(),
        });
        let added = pipeline.get_added_vocabulary();
        for segment in SpecialSegmentIterator::new(text, added, false, special_as_text) {
            let (chunk, offset) = match segment {
                Segment::SpecialToken(id) => {
                    out.push(id.into());
                    continue;
                }
                Segment::Text { text, input_offset } => (text, input_offset),
            };
            let normalized = normalize_all(pipeline.get_normalizers(), chunk, offset)?;
            if normalized.len() > u32::MAX as usize {
                return Err(format!(
                    "a text of {} bytes is over the limit of {}",
                    normalized.len(),
                    u32::MAX
                )
                .into());
            }
            for segment in SpecialSegmentIterator::new(&normalized, added, true, special_as_text) {
                match segment {
                    Segment::SpecialToken(id) => out.push(id.into()),
                    Segment::Text { text, .. } => {
                        scratch.spans.clear();
                        self.cuts.pre_tokenize(text, &mut scratch.cuts, &mut scratch.spans)?;
                        let model = pipeline.get_model();
                        model.tokenize_spans(text, &scratch.spans, &mut scratch.model, out)?;
                    }
                }
            }
        }
        idle().push(scratch);
        Ok(())
    }
}
