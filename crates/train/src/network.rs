//! What is pretrained: a decoder that predicts the next token, or an encoder that finds masked ones.

use crate::error::TrainError;
use crate::evaluate::{Score, TokenLengths, evaluate};
use crate::recipe::{ModelConfig, Recipe};
use hearth_data::{Batch, Masked, Masking, Shard};
use hearth_engine::{EncoderFiles, Framing, ModelFiles};
use hearth_kernel::loss::IGNORED;
use hearth_model::executor::ParamSpec;
use hearth_model::hf::SpecialIds;
use hearth_model::tape::{TokenBatch, Trainable};
use hearth_model::{
    Decoder, EncoderFamily, EncoderIds, MaskedModel, StoredType, Weights, load_masked_folder, save_folder,
    save_masked_folder, with_masked_head,
};
use hearth_tensor::nn::{self, CrossEntropyOptions, LossOutput};
use hearth_tokenizer::Tokenizer;
use std::collections::HashMap;
use std::path::Path;

/// Held-out text is masked by the same draws in every run, which no seed of a recipe is meant to share.
const HELD_OUT_SEED: u64 = 0x6865_6c64_6f75_7421;
/// Tokens of a pass over held-out text: enough for the products, few enough for memory.
const HELD_OUT_TOKENS: usize = 4096;

/// A model with what its objective needs.
#[derive(Debug)]
pub(crate) enum Network {
    Causal(Box<Trainable>),
    Masked(Box<MaskedNetwork>),
}

/// An encoder, and how its sequences are made of a batch.
#[derive(Debug)]
pub(crate) struct MaskedNetwork {
    model: MaskedModel,
    framing: Framing,
    masking: Masking,
}

/// A model that is there already, before its tokenizer is known.
#[derive(Debug)]
pub(crate) enum Pretrained {
    Decoder(Decoder, Weights),
    Encoder(MaskedModel, Weights),
}

impl Pretrained {
    /// Opens a folder, a GGUF file, or an adapter, which goes into its model's weights; the line says what of the model
    /// is new.
    pub(crate) fn open(path: &Path, seed: u64) -> Result<(Self, Option<String>), TrainError> {
        if !EncoderFiles::is_encoder(path)? {
            let files = ModelFiles::open(path)?;
            return Ok((Pretrained::Decoder(files.decoder().clone(), files.weights()?), None));
        }
        let (model, weights, fresh) = if path.is_dir() {
            load_masked_folder(path, seed)?
        } else {
            // GGUF has no place for the head.
            let files = EncoderFiles::open(path)?;
            let place = path.display().to_string();
            with_masked_head(files.encoder(), &files.weights()?, &HashMap::new(), &place, seed)?
        };
        let note = "the model has no head for masked tokens: it starts from random weights";
        Ok((Pretrained::Encoder(model, weights), fresh.then(|| note.to_owned())))
    }

    /// Its sizes.
    pub(crate) fn config(&self) -> ModelConfig {
        match self {
            Pretrained::Decoder(decoder, _) => ModelConfig::Decoder(decoder.config().clone()),
            Pretrained::Encoder(model, _) => ModelConfig::Encoder(model.encoder().config().clone()),
        }
    }
}

impl Network {
    /// A new model with random weights, or one that is there already.
    pub(crate) fn new(
        recipe: &Recipe,
        config: ModelConfig,
        pretrained: Option<Pretrained>,
        tokenizer: &Tokenizer,
    ) -> Result<(Self, Weights), TrainError> {
        let (seed, zero) = (recipe.seed, recipe.train.zero_projections);
        match (pretrained, config) {
            (Some(Pretrained::Decoder(decoder, weights)), _) => {
                Ok((Network::Causal(Box::new(Trainable::new(decoder))), weights))
            }
            (Some(Pretrained::Encoder(model, weights)), _) => {
                Ok((Self::masked(recipe, model, tokenizer)?, weights))
            }
            (None, ModelConfig::Decoder(config)) => {
                let decoder = Decoder::new(config)?;
                let weights = Weights::init(&decoder, seed, zero);
                Ok((Network::Causal(Box::new(Trainable::new(decoder))), weights))
            }
            (None, ModelConfig::Encoder(mut config)) => {
                if let EncoderFamily::EuroBert(own) = &mut config.family {
                    let (bos, eos) = (tokenizer.bos(), tokenizer.eos());
                    own.ids = EncoderIds { bos, eos, pad: tokenizer.pad(), mask: tokenizer.mask() };
                }
                let model = MaskedModel::new(config)?;
                let weights = Weights::init(&model, seed, zero);
                Ok((Self::masked(recipe, model, tokenizer)?, weights))
            }
        }
    }

    fn masked(recipe: &Recipe, model: MaskedModel, tokenizer: &Tokenizer) -> Result<Self, TrainError> {
        let objective = &recipe.objective;
        let masking = Masking::new(tokenizer, objective.mask_share, objective.whole_words)?;
        let framing = Framing::of(tokenizer);
        if framing.before.is_empty() || framing.after.is_empty() {
            let problem = "the tokenizer doesn't say what stands before and behind a text, and has no [CLS] and \
                           [SEP]\nhint: one that is trained for this objective has them";
            return Err(TrainError::Recipe { place: "recipe".into(), problem: problem.into() });
        }
        Ok(Network::Masked(Box::new(MaskedNetwork { model, framing, masking })))
    }

    /// Its sizes.
    pub(crate) fn config(&self) -> ModelConfig {
        match self {
            Network::Causal(model) => ModelConfig::Decoder(model.decoder().config().clone()),
            Network::Masked(network) => ModelConfig::Encoder(network.model.encoder().config().clone()),
        }
    }

    /// All parameters.
    pub(crate) fn specs(&self) -> &[ParamSpec] {
        match self {
            Network::Causal(model) => model.decoder().specs(),
            Network::Masked(network) => network.model.specs(),
        }
    }

    /// Number of parameters.
    pub(crate) fn n_params(&self) -> usize {
        self.specs().iter().map(|s| s.shape.iter().product::<usize>()).sum()
    }

    /// How many tokens of a window are those around a text.
    pub(crate) fn framed_by(&self) -> usize {
        match self {
            Network::Causal(_) => 0,
            Network::Masked(network) => network.framing.before.len() + network.framing.after.len(),
        }
    }

    /// Turns dropout on or off; the same seed gives the same masks.
    pub(crate) fn set_dropout(&mut self, dropout: f32, seed: u64) {
        match self {
            Network::Causal(model) => (model.dropout, model.dropout_seed) = (dropout, seed),
            Network::Masked(network) => network.model.set_dropout(dropout, seed),
        }
    }

    /// The loss of a batch, and the tokens that it was trained on. What is masked depends on `seed` and on the batch's
    /// `number`.
    pub(crate) fn loss(
        &self,
        weights: &Weights,
        batch: &Batch,
        (seed, number): (u64, u64),
        options: &CrossEntropyOptions,
    ) -> Result<(LossOutput, usize), TrainError> {
        match self {
            Network::Causal(model) => {
                let out = model.loss(weights, &token_batch(batch), &batch.targets, options)?;
                Ok((out, batch.scored()))
            }
            Network::Masked(network) => {
                let (tokens, Masked { rows, targets }) =
                    network.mask(pieces(batch).iter().map(Vec::as_slice), seed, number);
                let out = network.model.loss(weights, &tokens, &rows, &targets, options)?;
                Ok((out, batch.scored()))
            }
        }
    }

    /// How well held-out text is predicted, in windows of `context`; `limit` stops after so many tokens.
    pub(crate) fn score(
        &mut self,
        weights: &Weights,
        heldout: &Shard,
        lengths: &TokenLengths,
        context: usize,
        limit: Option<usize>,
    ) -> Result<Score, TrainError> {
        self.set_dropout(0.0, 0);
        match self {
            Network::Causal(model) => evaluate(model, weights, heldout, lengths, context, limit),
            Network::Masked(network) => network.score(weights, heldout, lengths, context, limit),
        }
    }

    /// Writes `config.json` and `model.safetensors`.
    pub(crate) fn save(
        &self,
        dir: &Path,
        weights: &Weights,
        tokenizer: &Tokenizer,
    ) -> Result<(), TrainError> {
        match self {
            Network::Causal(model) => {
                let ids = SpecialIds { bos: tokenizer.bos(), eos: tokenizer.eos() };
                save_folder(dir, model.decoder(), weights, ids, StoredType::F32)?;
            }
            Network::Masked(network) => save_masked_folder(dir, &network.model, weights, StoredType::F32)?,
        }
        Ok(())
    }
}

impl MaskedNetwork {
    /// Texts, framed as the model wants them and masked.
    fn mask<'a>(
        &self,
        texts: impl Iterator<Item = &'a [u32]>,
        seed: u64,
        number: u64,
    ) -> (TokenBatch, Masked) {
        let Framing { before, after } = &self.framing;
        let mut sequences: Vec<Vec<u32>> = texts.map(|text| [before, text, after].concat()).collect();
        let masked = self.masking.apply(&mut sequences, seed, number);
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        (TokenBatch::bidirectional(&sequences), masked)
    }

    /// Scores masked tokens of each held-out document, in pieces of a window.
    fn score(
        &self,
        weights: &Weights,
        heldout: &Shard,
        lengths: &TokenLengths,
        context: usize,
        limit: Option<usize>,
    ) -> Result<Score, TrainError> {
        let room = context - self.framing.before.len() - self.framing.after.len();
        let pieces = (0..heldout.documents()).flat_map(|document| {
            let mut text = heldout.tokens(heldout.document(document));
            if text.last().copied() == heldout.header().separator {
                text.pop();
            }
            text.chunks(room).map(<[u32]>::to_vec).collect::<Vec<_>>()
        });
        let mut score = Score { correct: Some(0), ..Score::default() };
        let (mut waiting, mut tokens, mut seen, mut pass) = (Vec::new(), 0, 0, 0);
        let mut pieces = pieces.peekable();
        while let Some(piece) = pieces.next() {
            tokens += piece.len();
            waiting.push(piece);
            if tokens < HELD_OUT_TOKENS && pieces.peek().is_some() {
                continue;
            }
            self.score_pass(weights, &waiting, pass, lengths, &mut score)?;
            seen += tokens;
            pass += 1;
            tokens = 0;
            waiting.clear();
            if limit.is_some_and(|limit| seen >= limit) {
                break;
            }
        }
        Ok(score)
    }

    fn score_pass(
        &self,
        weights: &Weights,
        pieces: &[Vec<u32>],
        pass: u64,
        lengths: &TokenLengths,
        score: &mut Score,
    ) -> Result<(), TrainError> {
        let (tokens, Masked { rows, targets }) =
            self.mask(pieces.iter().map(Vec::as_slice), HELD_OUT_SEED, pass);
        let logits = self.model.logits(weights, &tokens, &rows)?;
        score.nats += nn::cross_entropy(&logits, &targets, &CrossEntropyOptions::default())?.sum;
        score.tokens += targets.len();
        score.bytes += lengths.total(targets.iter().map(|&t| t as u32));
        let classes = logits.shape()[1];
        let found = logits.data().chunks_exact(classes).zip(&targets).filter(|(row, target)| {
            let best = (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            best == usize::try_from(**target).ok()
        });
        score.correct = score.correct.map(|correct| correct + found.count());
        Ok(())
    }
}

fn token_batch(batch: &Batch) -> TokenBatch {
    match (&batch.segments, &batch.positions) {
        (Some(segments), Some(positions)) => {
            TokenBatch::packed(batch.tokens.clone(), batch.batch, segments, positions.clone())
        }
        _ => TokenBatch::causal(batch.tokens.clone(), batch.batch),
    }
}

/// The texts of a batch: its rows, or the documents in them without the padding, where nothing is to be learned.
fn pieces(batch: &Batch) -> Vec<Vec<u32>> {
    let rows = batch.tokens.chunks_exact(batch.context);
    let Some(segments) = &batch.segments else { return rows.map(<[u32]>::to_vec).collect() };
    let mut pieces: Vec<Vec<u32>> = Vec::new();
    let mut last = None;
    for (i, &token) in batch.tokens.iter().enumerate().filter(|(i, _)| batch.targets[*i] != IGNORED) {
        let place = Some((i / batch.context, segments[i]));
        match pieces.last_mut().filter(|_| place == last) {
            Some(piece) => piece.push(token),
            None => pieces.push(vec![token]),
        }
        last = place;
    }
    pieces
}
