//! Models from one format into another, and into smaller types: what was written is opened again and
//! compared before anything is called done.

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::gguf;
use crate::score::log_sum_exp;
use crate::special::SpecialRules;
use hearth_model::executor::ParamId;
use hearth_model::gguf::{Gguf, GgufModel, Mix, save_gguf};
use hearth_model::hf::SpecialIds;
use hearth_model::runner::MAX_ROWS;
use hearth_model::source::{Source, Stored};
use hearth_model::{
    Adapter, CacheType, Decoder, Feed, FolderModel, Logits, Runner, StoredType, Weights, save_folder,
};
use hearth_tokenizer::Tokenizer;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

/// Text that an exported tokenizer must give the same ids for.
const SAMPLE: &str = "The quick brown fox, 1234567 times — it's naïve?\n\n\tfn main() { println!(\"{}\", 0x1F); }\n\
                      敏捷的棕色狐狸跳过了懒狗。床前明月光,疑是地上霜 🦊👩‍👩‍👧 é \u{301}   end";
/// Tokens of the sample whose logits are compared.
const COMPARED: usize = 64;

/// How much each input of a weight matters: the mean square of what goes in, a value a column.
pub type ImportanceMap = HashMap<ParamId, Vec<f32>>;

/// A model that isn't running: its parts as their files have them.
pub struct ModelFiles {
    pub(crate) decoder: Decoder,
    pub(crate) source: Box<dyn Source>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) special: SpecialRules,
    name: String,
}

/// Parameters of which some aren't what their files have.
struct Changed {
    base: Box<dyn Source>,
    changed: HashMap<ParamId, Vec<f32>>,
}

impl Source for Changed {
    fn stored(&self, id: ParamId) -> Stored<'_> {
        match self.changed.get(&id) {
            Some(values) => Stored::Values(values),
            None => self.base.stored(id),
        }
    }
}

impl ModelFiles {
    /// Opens a GGUF file, a model folder, or the folder of an adapter, whose model has to be where its configuration
    /// says.
    ///
    /// # Errors
    /// If a file is missing or isn't what it should be.
    pub fn open(path: &Path) -> Result<Self> {
        if Adapter::is_adapter(path) {
            return Self::open_base(path)?.with_adapter(path, 1.0);
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() {
            let model = GgufModel::new(Gguf::open(path)?)?;
            let (tokenizer, special) = gguf::tokenizer(model.file())?;
            let name = model.file().find::<&str>("general.name")?.map_or(name, str::to_owned);
            let decoder = model.decoder().clone();
            return Ok(ModelFiles { decoder, source: Box::new(model), tokenizer, special, name });
        }
        let model = FolderModel::open(path)?;
        let tokenizer = Tokenizer::from_folder(path)?;
        let special = SpecialRules::of_folder(path, &tokenizer)?;
        let decoder = model.decoder().clone();
        Ok(ModelFiles { decoder, source: Box::new(model), tokenizer, special, name })
    }

    /// Opens the model that the adapter in a folder is for, where its configuration says, without the adapter.
    fn open_base(adapter: &Path) -> Result<Self> {
        let base = Adapter::base_of(adapter)?;
        if !Path::new(&base).exists() {
            let problem = format!(
                "the adapter is for the model {base:?}, which isn't there\nhint: hearth merge MODEL --adapter {} \
                 names the model",
                adapter.display()
            );
            return Err(EngineError::BadFile { path: adapter.to_owned(), problem });
        }
        Self::open(Path::new(&base))
    }

    /// Opens an adapter and the model that it is for, apart from each other, to train the adapter further. The tokenizer
    /// is the adapter's, if it has one.
    ///
    /// # Errors
    /// If one of them isn't there or isn't what it should be.
    pub fn open_apart(adapter: &Path) -> Result<(Self, Adapter)> {
        let base = Self::open_base(adapter)?;
        let opened = base.adapter(adapter)?;
        Ok((base.with_tokenizer_of(adapter)?, opened))
    }

    fn adapter(&self, dir: &Path) -> Result<Adapter> {
        let in_out = self.decoder.config().family.stores_in_out();
        Ok(Adapter::open(dir, self.decoder.specs(), "", in_out)?)
    }

    /// The same with `weight` times an adapter in PEFT's format in its weights, and the adapter's tokenizer, if it has
    /// one.
    ///
    /// # Errors
    /// If the adapter isn't one, or is for another model.
    pub fn with_adapter(self, dir: &Path, weight: f32) -> Result<Self> {
        let values = |id| self.source.stored(id).values().into_owned();
        let changed = self.adapter(dir)?.changed(weight, values).into_iter().collect();
        let files = self.with_tokenizer_of(dir)?;
        Ok(ModelFiles { source: Box::new(Changed { base: files.source, changed }), ..files })
    }

    /// The same with the tokenizer in an adapter's folder, if there is one, and with what ends its texts.
    fn with_tokenizer_of(self, dir: &Path) -> Result<Self> {
        let (mut tokenizer, mut special) = (self.tokenizer, self.special);
        if dir.join("tokenizer.json").is_file() {
            tokenizer = Tokenizer::from_folder(dir)?;
            special.ends.extend(tokenizer.eos());
            special.ends.sort_unstable();
            special.ends.dedup();
        }
        Ok(ModelFiles { tokenizer, special, ..self })
    }

    /// The description.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Copies of the parameters, in single precision.
    ///
    /// # Errors
    /// If they don't have the description's shapes.
    pub fn weights(&self) -> Result<Weights> {
        Ok(Weights::of_source(&self.decoder, self.source.as_ref())?)
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens that begin and end a text.
    pub fn special(&self) -> &SpecialRules {
        &self.special
    }

    /// Writes a GGUF file in the types of `mix`, opens it, and compares token ids, and in single precision
    /// logits, with these files'. `progress` hears how many tensors of how many are written.
    ///
    /// # Errors
    /// If GGUF has no such architecture or tokenizer, if the file can't be written, or if what was written
    /// doesn't do the same: it is then removed.
    pub fn save_gguf(
        &self,
        path: &Path,
        mix: Mix,
        importance: Option<&ImportanceMap>,
        progress: impl FnMut(usize, usize),
    ) -> Result<()> {
        let mut vocab = self.tokenizer.to_gguf()?;
        vocab.fill_up(self.decoder.config().vocab_size);
        let importance = |id: ParamId| importance.and_then(|map| map.get(&id)).map(Vec::as_slice);
        save_gguf(
            path,
            &self.decoder,
            self.source.as_ref(),
            mix,
            &importance,
            &|writer| gguf::describe(writer, &self.name, &vocab, &self.special.infill),
            progress,
        )?;
        self.check(path, mix == Mix::F32).inspect_err(|_| {
            // A file that isn't the model mustn't be taken for it.
            let _ = fs_err::remove_file(path);
        })
    }

    /// Writes a folder in the Hugging Face layout, in single precision or bf16, and compares it likewise.
    ///
    /// # Errors
    /// If the folder can't be written, or doesn't do the same.
    pub fn save_folder(&self, dir: &Path, dtype: StoredType) -> Result<()> {
        let weights = self.weights()?;
        let ids = SpecialIds { bos: self.tokenizer.bos(), eos: self.tokenizer.eos() };
        fs_err::create_dir_all(dir)?;
        self.tokenizer.save(dir)?;
        save_folder(dir, &self.decoder, &weights, ids, dtype)?;
        self.check(dir, dtype == StoredType::F32)
    }

    /// Opens what was written, and compares. Logits must be equal to a thousandth where types are `exact`; of
    /// smaller types they must be numbers, for how far off they may be is the user's choice.
    fn check(&self, path: &Path, exact: bool) -> Result<()> {
        let mut written = Engine::open(path)?;
        let differs = |what: &str| EngineError::Export { path: path.to_owned(), what: what.to_owned() };
        for text in [SAMPLE, self.tokenizer.chat_template().unwrap_or_default()] {
            let (ours, theirs) = (self.tokenizer.encode(text), written.tokenizer().encode(text));
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) if ours == theirs => {}
                // A vocabulary of few characters may have no token for some of the sample's.
                (Err(_), Err(_)) => {}
                _ => return Err(differs("token ids")),
            }
        }
        if self.special.prepend != written.special().prepend {
            return Err(differs("the token that begins a text"));
        }
        let vocab = self.decoder.config().vocab_size as u32;
        let count = COMPARED.min(self.decoder.config().max_positions) as u32;
        let tokens: Vec<u32> = (0..count).map(|i| (i * i * 31 + 7 * i + 1) % vocab).collect();
        let logits = |runner: &mut Runner| -> Result<Vec<f32>> {
            // Weights in half precision would bring a cache of their own type, and other logits.
            runner.set_cache_type(CacheType::F32);
            let mut sequence = runner.sequence(tokens.len())?;
            let feed = Feed { sequence: &mut sequence, tokens: &tokens, logits: Logits::All };
            Ok(runner.run(&mut [feed])?.to_vec())
        };
        let theirs = logits(written.runner_mut())?;
        if theirs.iter().any(|x| !x.is_finite()) {
            return Err(differs("logits, which aren't finite numbers,"));
        }
        // A source of quantised blocks is multiplied in eight bits, which the same values in single
        // precision are not.
        let quantised = (0..self.decoder.specs().len()).any(|i| {
            let stored = self.source.stored(ParamId::new(i));
            matches!(stored, Stored::File(rows) if rows.kind.is_quantized())
        });
        if exact && !quantised {
            let ours = logits(&mut Runner::new(self.decoder.clone(), self.source.as_ref())?)?;
            if ours.iter().zip(&theirs).any(|(a, b)| (a - b).abs() > 1e-3) {
                return Err(differs("logits"));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for ModelFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelFiles").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Two models' predictions of one text, the second measured against the first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Divergence {
    /// Tokens predicted.
    pub tokens: usize,
    /// Mean Kullback–Leibler divergence from the first's distribution, in nats.
    pub kl: f64,
    /// Share of tokens at which both find the same one likeliest.
    pub same_top: f64,
    /// e to the first's mean loss.
    pub perplexity_before: f64,
    /// e to the second's.
    pub perplexity_after: f64,
}

impl Engine {
    /// Runs a text through the model and measures how much each input of each linear layer matters, for
    /// quantising it.
    ///
    /// # Errors
    /// If the text is empty or the caller breaks off.
    pub fn importance(
        &mut self,
        text: &str,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<ImportanceMap> {
        let tokens = self.windows(text)?;
        self.runner.watch_inputs();
        let total: usize = tokens.iter().map(Vec::len).sum();
        let mut read = 0;
        for window in &tokens {
            let mut sequence = self.runner.sequence(window.len())?;
            let feed = Feed { sequence: &mut sequence, tokens: window, logits: Logits::All };
            self.runner.run(&mut [feed])?;
            read += window.len();
            if progress(read, total).is_break() {
                self.runner.watched_inputs();
                return Err(EngineError::Interrupted);
            }
        }
        Ok(self.runner.watched_inputs())
    }

    /// Compares another model's predictions of a text with this one's; both must have one vocabulary.
    ///
    /// # Errors
    /// If the vocabularies differ, the text is too short, or the caller breaks off.
    pub fn divergence(
        &mut self,
        other: &mut Engine,
        text: &str,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Divergence> {
        let windows = self.windows(text)?;
        let width = self.config().vocab_size;
        if other.config().vocab_size != width {
            return Err(EngineError::VocabularyMismatch {
                place: "divergence".into(),
                tokenizer: width,
                model: other.config().vocab_size,
            });
        }
        let (mut sum, mut read) = (Divergence::default(), 0);
        let total: usize = windows.iter().map(Vec::len).sum();
        for window in &windows {
            let mut both = Vec::new();
            for engine in [&mut *self, &mut *other] {
                let mut sequence = engine.runner.sequence(window.len())?;
                let feed = Feed { sequence: &mut sequence, tokens: window, logits: Logits::All };
                both.push(engine.runner.run(&mut [feed])?.to_vec());
            }
            let rows = both[0].chunks_exact(width).zip(both[1].chunks_exact(width));
            for ((ours, theirs), target) in rows.zip(&window[1..]) {
                sum.add(ours, theirs, *target as usize);
            }
            read += window.len();
            if progress(read, total).is_break() {
                return Err(EngineError::Interrupted);
            }
        }
        Ok(sum.mean())
    }

    /// A text in windows that one pass takes, each with the token in front that begins a text.
    fn windows(&self, text: &str) -> Result<Vec<Vec<u32>>> {
        let tokens = self.tokenizer.encode(text)?;
        if tokens.len() < 2 {
            return Err(EngineError::TooShort {
                tokens: tokens.len(),
                needed: 2,
                hint: "give a longer text",
            });
        }
        let begin = self.special.prepend;
        let most = MAX_ROWS.min(self.context()) - usize::from(begin.is_some());
        let window = |part: &[u32]| begin.into_iter().chain(part.iter().copied()).collect::<Vec<u32>>();
        Ok(tokens.chunks(most).map(window).filter(|window| window.len() > 1).collect())
    }
}

impl Divergence {
    /// Adds one token: two models' logits, and what came.
    fn add(&mut self, ours: &[f32], theirs: &[f32], target: usize) {
        let largest = |x: &[f32]| (0..x.len()).max_by(|a, b| x[*a].total_cmp(&x[*b]));
        let (our_sum, their_sum) = (log_sum_exp(ours), log_sum_exp(theirs));
        let terms = ours.iter().zip(theirs).map(|(a, b)| {
            let (a, b) = (f64::from(*a) - our_sum, f64::from(*b) - their_sum);
            a.exp() * (a - b)
        });
        self.tokens += 1;
        self.kl += terms.sum::<f64>();
        self.same_top += f64::from(u8::from(largest(ours) == largest(theirs)));
        self.perplexity_before += our_sum - f64::from(ours[target]);
        self.perplexity_after += their_sum - f64::from(theirs[target]);
    }

    /// From sums to means.
    fn mean(self) -> Self {
        let n = self.tokens as f64;
        Divergence {
            tokens: self.tokens,
            kl: self.kl / n,
            same_top: self.same_top / n,
            perplexity_before: (self.perplexity_before / n).exp(),
            perplexity_after: (self.perplexity_after / n).exp(),
        }
    }
}
