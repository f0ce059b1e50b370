//! Encoders into GGUF files and folders; what was written is opened again and its vectors compared.

use crate::embed::{EmbedOptions, Embedder};
use crate::error::{EngineError, Result};
use crate::gguf;
use crate::infill::InfillTokens;
use crate::pooling::{Pooling, PoolingRules};
use hearth_kernel::quant::BlockType;
use hearth_model::gguf::{Gguf, GgufEncoder, Mix, save_gguf_encoder};
use hearth_model::source::Source;
use hearth_model::{Adapter, Encoder, EncoderFolder, StoredType, Weights, save_encoder_folder};
use hearth_tokenizer::Tokenizer;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Texts whose vectors are compared.
const SAMPLES: [&str; 4] = [
    "The quick brown fox jumps over the lazy dog.",
    "How do I keep a fire in the hearth through the night?",
    "敏捷的棕色狐狸跳过了懒狗。床前明月光，疑是地上霜。",
    "fn main() { println!(\"{}\", 1234567); } — it's naïve, isn't it?",
];
/// How far values of vectors of length one may be apart in single precision.
const TOLERANCE: f32 = 1e-4;

/// An encoder that isn't running: its parts as their files have them.
pub struct EncoderFiles {
    pub(crate) path: PathBuf,
    name: String,
    pub(crate) encoder: Encoder,
    pub(crate) source: Box<dyn Source>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) rules: PoolingRules,
    /// Whether the sizes are those of the tensors, as `config.json` doesn't say.
    pub(crate) guessed: bool,
}

impl EncoderFiles {
    /// Whether a GGUF file or model folder holds an encoder. Adapters are taken for those of decoders: an encoder's
    /// are written together with the model.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn is_encoder(path: &Path) -> Result<bool> {
        if path.is_file() {
            let file = Gguf::open(path)?;
            return Ok(file.get::<&str>("general.architecture")? == GgufEncoder::ARCHITECTURE);
        }
        Ok(!Adapter::is_adapter(path) && EncoderFolder::is_encoder(path)?)
    }

    /// Opens a GGUF file or a folder.
    ///
    /// # Errors
    /// If a file is missing or isn't what it should be.
    pub fn open(path: &Path) -> Result<Self> {
        match path.is_file() {
            true => Self::of_gguf(Gguf::open(path)?),
            false => Self::of_folder(path),
        }
    }

    pub(crate) fn of_gguf(file: Gguf) -> Result<Self> {
        let path = file.path().to_owned();
        let model = GgufEncoder::new(file)?;
        let (tokenizer, _) = gguf::tokenizer(model.file())?;
        let rules = PoolingRules::of_gguf(model.file())?;
        let name = model.file().find::<&str>("general.name")?.map_or_else(|| stem(&path), str::to_owned);
        let encoder = model.encoder().clone();
        let source = Box::new(model);
        Ok(EncoderFiles { path, name, encoder, source, tokenizer, rules, guessed: false })
    }

    pub(crate) fn of_folder(dir: &Path) -> Result<Self> {
        let rules = PoolingRules::of_folder(dir)?;
        let EncoderFolder { encoder, weights, guessed, .. } = EncoderFolder::open(dir)?;
        let tokenizer = Tokenizer::from_folder(dir)?;
        let (path, name, source) = (dir.to_owned(), stem(dir), Box::new(weights));
        Ok(EncoderFiles { path, name, encoder, source, tokenizer, rules, guessed })
    }

    /// The description.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Copies of the parameters, in single precision.
    ///
    /// # Errors
    /// If they don't have the description's shapes.
    pub fn weights(&self) -> Result<Weights> {
        Ok(Weights::of_source(&self.encoder, self.source.as_ref())?)
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Writes a GGUF file with matrices in the main type of `mix`, opens it, and compares token ids and vectors
    /// with these files'. Gives the smallest cosine between two vectors of a text. `progress` hears how many
    /// tensors of how many are written.
    ///
    /// # Errors
    /// If GGUF has no such architecture or tokenizer, if the file can't be written, or if what was written
    /// doesn't do the same: it is then removed.
    pub fn save_gguf(&self, path: &Path, mix: Mix, progress: impl FnMut(usize, usize)) -> Result<f64> {
        let mut vocab = self.tokenizer.to_gguf()?;
        vocab.fill_up(self.encoder.config().vocab_size);
        save_gguf_encoder(
            path,
            &self.encoder,
            self.source.as_ref(),
            mix,
            &|writer| {
                gguf::describe(writer, &self.name, &vocab, &InfillTokens::default())?;
                for (role, token) in [("seperator", "[SEP]"), ("mask", "[MASK]"), ("cls", "[CLS]")] {
                    if let Some(id) = self.tokenizer.id_of(token) {
                        // The second word is spelt as the format's description has it.
                        writer.set(&format!("tokenizer.ggml.{role}_token_id"), id)?;
                    }
                }
                match self.rules.pooling {
                    Some(pooling) => writer
                        .set(&format!("{}.pooling_type", GgufEncoder::ARCHITECTURE), pooling.gguf_number()),
                    None => Ok(()),
                }
            },
            progress,
        )?;
        self.check(path, mix == Mix::F32).inspect_err(|_| {
            // A file that isn't the model mustn't be taken for it.
            let _ = fs_err::remove_file(path);
        })
    }

    /// Writes a folder that `transformers` and sentence-transformers open, in single precision or bf16, and compares it
    /// likewise.
    ///
    /// # Errors
    /// If the folder can't be written, or doesn't do the same.
    pub fn save_folder(&self, dir: &Path, dtype: StoredType) -> Result<f64> {
        let weights = self.weights()?;
        let config = self.encoder.config();
        let rules = PoolingRules {
            pooling: Some(self.rules.pooling.unwrap_or(Pooling::Mean)),
            max_tokens: Some(self.rules.max_tokens.unwrap_or(config.max_positions)),
            ..self.rules.clone()
        };
        fs_err::create_dir_all(dir)?;
        self.tokenizer.save(dir)?;
        rules.save(dir, config.hidden_size)?;
        save_encoder_folder(dir, &self.encoder, &weights, dtype)?;
        self.check(dir, dtype == StoredType::F32)
    }

    /// Opens what was written, and compares: vectors must be equal where types are `exact`, and finite in all.
    fn check(&self, path: &Path, exact: bool) -> Result<f64> {
        let differs = |what: &str| EngineError::Export { path: path.to_owned(), what: what.to_owned() };
        // Blocks would be multiplied in eight bits, which the same values in single precision are not.
        let weight_type = exact.then_some(BlockType::F32);
        let options = EmbedOptions { normalize: Some(true), weight_type, ..EmbedOptions::default() };
        let mut theirs = Embedder::open(path, &options)?;
        let mut ours = Embedder::open(&self.path, &options)?;
        if ours.sequences(&SAMPLES)? != theirs.sequences(&SAMPLES)? {
            return Err(differs("token ids"));
        }
        let go_on = |_| ControlFlow::Continue(());
        let (ours, theirs) = (ours.embed(&SAMPLES, go_on)?, theirs.embed(&SAMPLES, go_on)?);
        let mut smallest = 1.0f64;
        for (ours, theirs) in ours.vectors.iter().zip(&theirs.vectors) {
            let pairs = || ours.iter().zip(theirs);
            if exact && pairs().any(|(a, b)| (a - b).abs() > TOLERANCE) {
                return Err(differs("vectors"));
            }
            smallest = smallest.min(pairs().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum());
        }
        Ok(smallest)
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

impl std::fmt::Debug for EncoderFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncoderFiles").field("name", &self.name).finish_non_exhaustive()
    }
}
