//! Texts to vectors: an encoder's or a decoder's hidden states, pooled to one vector a text.

use crate::convert_encoder::EncoderFiles;
use crate::engine::{Engine, check_vocabulary};
use crate::error::{EngineError, Result};
use crate::framing::{Framed, Framing};
use crate::pooling::{Pooling, PoolingRules};
use crate::special::frame;
use hearth_kernel::quant::BlockType;
use hearth_model::gguf::{Gguf, GgufEncoder};
use hearth_model::runner::MAX_ROWS;
use hearth_model::{EncoderRunner, Feed, Logits, Runner, Weights};
use hearth_tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

/// What a model's files leave open, or a caller wants otherwise.
#[derive(Clone, Debug)]
pub struct EmbedOptions {
    /// How tokens become one vector; the files' way if none is given.
    pub pooling: Option<Pooling>,
    /// Whether vectors get length 1; as the files say if none is given, and yes where they don't.
    pub normalize: Option<bool>,
    /// The type that an encoder's matrices are multiplied in: as stored, or `F32`, or blocks such as `Q8_0`.
    pub weight_type: Option<BlockType>,
    /// Most texts in one pass.
    pub batch: usize,
    /// Texts are cut to so many tokens, if the files don't say fewer.
    pub max_tokens: Option<usize>,
    /// The prompt to put in front of each text, by its name in the model's files, such as `query`.
    pub prompt: Option<String>,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        EmbedOptions {
            pooling: None,
            normalize: None,
            weight_type: None,
            batch: 32,
            max_tokens: None,
            prompt: None,
        }
    }
}

/// Vectors of some texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    /// One vector a text, in the texts' order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens that went through the model.
    pub tokens: usize,
    /// Texts that were longer than the model takes, and were cut.
    pub truncated: usize,
}

/// A model that embeds, with its tokenizer.
#[derive(Debug)]
pub struct Embedder {
    model: Model,
    tokenizer: Tokenizer,
    rules: PoolingRules,
    pooling: Pooling,
    normalize: bool,
    batch: usize,
    framing: Framing,
    max_tokens: usize,
    /// In front of each text.
    prompt: String,
    notes: Vec<String>,
}

#[derive(Debug)]
enum Model {
    Encoder(Box<EncoderRunner>),
    Decoder(Box<Runner>),
}

impl Embedder {
    /// Opens a model: a GGUF file, a folder in the layout of Hugging Face or sentence-transformers, or an adapter.
    ///
    /// # Errors
    /// If a file is missing or isn't what it should be, or asks for something that isn't done here.
    pub fn open(path: &Path, options: &EmbedOptions) -> Result<Self> {
        if path.is_file() {
            let file = Gguf::open(path)?;
            if file.get::<&str>("general.architecture")? != GgufEncoder::ARCHITECTURE {
                return Self::decoder(path, PoolingRules::of_gguf(&file)?, options);
            }
            return Self::encoder(EncoderFiles::of_gguf(file)?, options);
        }
        if !EncoderFiles::is_encoder(path)? {
            return Self::decoder(path, PoolingRules::of_folder(path)?, options);
        }
        Self::encoder(EncoderFiles::of_folder(path)?, options)
    }

    fn encoder(files: EncoderFiles, options: &EmbedOptions) -> Result<Self> {
        let EncoderFiles { path, encoder, source, tokenizer, rules, guessed, .. } = files;
        let place = path.display().to_string();
        let runner = EncoderRunner::new(encoder, source.as_ref(), options.weight_type)?;
        let framing = Framing::of(&tokenizer);
        let config = runner.encoder().config();
        let (positions, vocab_size) = (config.max_positions, config.vocab_size);
        let note = guessed.then(|| {
            format!(
                "{place}: config.json doesn't describe the model; taken from its tensors: a bert of width {}, and \
                 by that width {} heads",
                config.hidden_size, config.n_heads
            )
        });
        check_vocabulary(&place, &tokenizer, vocab_size)?;
        let model = Model::Encoder(Box::new(runner));
        let mut embedder = Self::assemble(&path, model, tokenizer, framing, rules, positions, options)?;
        embedder.notes.extend(note);
        Ok(embedder)
    }

    fn decoder(path: &Path, rules: PoolingRules, options: &EmbedOptions) -> Result<Self> {
        if options.weight_type.is_some() {
            let problem = "the type of weights can be chosen for encoders only\nhint: hearth quantize writes a \
                           decoder in another type";
            return Err(EngineError::BadFile { path: path.to_owned(), problem: problem.to_owned() });
        }
        let Engine { runner, tokenizer, special, .. } = Engine::open(path)?;
        let (mut before, after) = frame(&tokenizer);
        if before.is_empty() {
            before.extend(special.prepend);
        }
        let framing = Framing { before, after };
        let positions = runner.decoder().config().max_positions;
        let model = Model::Decoder(Box::new(runner));
        Self::assemble(path, model, tokenizer, framing, rules, positions, options)
    }

    fn assemble(
        path: &Path,
        model: Model,
        tokenizer: Tokenizer,
        framing: Framing,
        rules: PoolingRules,
        positions: usize,
        options: &EmbedOptions,
    ) -> Result<Self> {
        let usual = match &model {
            Model::Encoder(_) => Pooling::Mean,
            Model::Decoder(_) => Pooling::Last,
        };
        let pooling = options.pooling.or(rules.pooling).unwrap_or(usual);
        let max_tokens = rules.max_tokens.unwrap_or(positions).min(positions);
        let max_tokens = options.max_tokens.unwrap_or(max_tokens).min(max_tokens);
        let normalize = options.normalize.unwrap_or(rules.normalize);
        let batch = options.batch.max(1);
        let prompt = match &options.prompt {
            Some(name) => rules.prompt(path, name)?,
            None => String::new(),
        };
        Ok(Embedder {
            model,
            tokenizer,
            rules,
            pooling,
            normalize,
            batch,
            framing,
            max_tokens,
            prompt,
            notes: Vec::new(),
        })
    }

    /// Length of a vector.
    pub fn dim(&self) -> usize {
        match &self.model {
            Model::Encoder(runner) => runner.encoder().config().hidden_size,
            Model::Decoder(runner) => runner.decoder().config().hidden_size,
        }
    }

    /// How tokens become one vector.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Most tokens of a text, with those around it.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// What the model's files want in front of texts, by the names of sentence-transformers, such as `query`.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        &self.rules.prompts
    }

    /// What had to be assumed about the model, in sentences for the user.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Embeds texts. A text's vector doesn't depend on the others. `go_on` hears how many texts are done.
    ///
    /// # Errors
    /// If a vector isn't finite, or the caller breaks off.
    pub fn embed(
        &mut self,
        texts: &[&str],
        go_on: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Embeddings> {
        let framed = self.sequences(texts)?;
        let truncated = framed.iter().filter(|text| text.cut > 0).count();
        let sequences: Vec<Vec<u32>> = framed.into_iter().map(|text| text.ids).collect();
        let tokens = sequences.iter().map(Vec::len).sum();
        let vectors = self.embed_sequences(&sequences, go_on)?;
        Ok(Embeddings { vectors, tokens, truncated })
    }

    /// The vectors of texts that [`sequences`](Self::sequences) has encoded.
    ///
    /// # Errors
    /// Those of [`embed`](Self::embed).
    pub fn embed_sequences(
        &mut self,
        sequences: &[Vec<u32>],
        mut go_on: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<f32>>> {
        // Texts of like length go together, so that passes are evenly filled.
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(sequences[i].len()));
        let mut vectors = vec![Vec::new(); sequences.len()];
        let mut done = 0;
        while done < order.len() {
            let pass = self.pass_of(&order[done..], sequences);
            self.run(&order[done..done + pass], sequences, &mut vectors)?;
            done += pass;
            if go_on(done).is_break() {
                return Err(EngineError::Interrupted);
            }
        }
        if let Some(at) = vectors.iter().position(|vector| vector.iter().any(|x| !x.is_finite())) {
            return Err(EngineError::VectorNotFinite { text: at });
        }
        Ok(vectors)
    }

    /// Goes on with other weights of the same architecture.
    ///
    /// # Errors
    /// If the weights don't fit.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        match &mut self.model {
            Model::Encoder(runner) => {
                **runner = EncoderRunner::new(runner.encoder().clone(), weights, None)?;
            }
            Model::Decoder(runner) => **runner = Runner::new(runner.decoder().clone(), weights)?,
        }
        Ok(())
    }

    /// Writes beside a model what sentence-transformers wants to know of it: that vectors are made as here, with
    /// length 1, of texts with `prompts` in front.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn save_rules(&self, dir: &Path, prompts: &BTreeMap<String, String>) -> std::io::Result<()> {
        let rules = PoolingRules {
            pooling: Some(self.pooling),
            normalize: true,
            max_tokens: Some(self.max_tokens),
            prompts: prompts.clone(),
            ..self.rules.clone()
        };
        rules.save(dir, self.dim())
    }

    /// Each text with what surrounds it, cut where it is longer than the model takes.
    ///
    /// # Errors
    /// If a text can't be encoded.
    pub fn sequences(&self, texts: &[&str]) -> Result<Vec<Framed>> {
        let changed: Vec<String>;
        let changed_texts: Vec<&str>;
        let texts = if self.rules.lowercase || !self.prompt.is_empty() {
            let change = |text: &&str| {
                let text = self.prompt.clone() + text;
                if self.rules.lowercase { text.to_lowercase() } else { text }
            };
            changed = texts.iter().map(change).collect();
            changed_texts = changed.iter().map(String::as_str).collect();
            &changed_texts
        } else {
            texts
        };
        let framed = self.tokenizer.encode_batch(texts)?.into_iter().map(|ids| {
            let framed = self.framing.single(&ids, self.max_tokens);
            if framed.ids.is_empty() { Err(EngineError::EmptyPrompt) } else { Ok(framed) }
        });
        framed.collect()
    }

    /// How many of the next texts go through the model together.
    fn pass_of(&self, order: &[usize], sequences: &[Vec<u32>]) -> usize {
        let Model::Encoder(runner) = &self.model else { return 1 };
        let mut rows = 0;
        let fits = |&&i: &&usize| {
            rows += sequences[i].len();
            rows <= runner.max_rows()
        };
        order.iter().take(self.batch).take_while(fits).count().max(1)
    }

    fn run(&mut self, texts: &[usize], sequences: &[Vec<u32>], vectors: &mut [Vec<f32>]) -> Result<()> {
        let (c, pooling, normalize) = (self.dim(), self.pooling, self.normalize);
        match &mut self.model {
            Model::Encoder(runner) => {
                let rows: Vec<&[u32]> = texts.iter().map(|&i| sequences[i].as_slice()).collect();
                let mut hidden = runner.run(&rows)?;
                for (&i, row) in texts.iter().zip(&rows) {
                    let (own, rest) = hidden.split_at(row.len() * c);
                    vectors[i] = pooling.pool(own, c);
                    hidden = rest;
                }
            }
            Model::Decoder(runner) => {
                for &i in texts {
                    let mut sequence = runner.sequence(sequences[i].len())?;
                    let mut all = Vec::with_capacity(sequences[i].len() * c);
                    for tokens in sequences[i].chunks(MAX_ROWS) {
                        runner.run(&mut [Feed { sequence: &mut sequence, tokens, logits: Logits::None }])?;
                        all.extend_from_slice(runner.hidden());
                    }
                    vectors[i] = pooling.pool(&all, c);
                }
            }
        }
        if normalize {
            texts.iter().for_each(|&i| to_length_one(&mut vectors[i]));
        }
        Ok(())
    }
}

/// Divides by the length, as `torch.nn.functional.normalize` does.
fn to_length_one(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
}
