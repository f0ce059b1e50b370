//! Masked-language modelling: an encoder with the head that finds the tokens which were masked (Devlin et al. 2019,
//! section 3.1). Names and computations are those of `transformers`' `BertForMaskedLM` and `EuroBertForMaskedLM`, so
//! that what is pretrained here opens there.
//!
//! BERT transforms a hidden state (linear, activation, LayerNorm) and multiplies with the table of token embeddings,
//! plus a bias; EuroBERT multiplies at once, with that table or with a matrix of its own. Only the rows that were
//! masked go through the head.

use crate::encoder::{Encoder, EncoderConfig, EncoderFamily, Specs};
use crate::error::ModelError;
use crate::executor::{Init, Linear, Norm, ParamSpec, Role};
use crate::folder_encoder::{EncoderFolder, write_encoder_tensors};
use crate::hf_encoder::encoder_config_to_json;
use crate::tape::{TokenBatch, TrainableEncoder};
use crate::weights::{StoredType, Weights, write_json};
use hearth_tensor::nn::{self, CrossEntropyOptions, LossOutput};
use hearth_tensor::{Tensor, no_grad};
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;

/// An encoder with its head for masked-language modelling: its parameters are those of the encoder, without a
/// pooler, followed by the head's.
#[derive(Debug)]
pub struct MaskedModel {
    encoder: TrainableEncoder,
    transform: Option<(Linear, Norm)>,
    head: Linear,
    specs: Vec<ParamSpec>,
}

impl AsRef<[ParamSpec]> for MaskedModel {
    fn as_ref(&self) -> &[ParamSpec] {
        &self.specs
    }
}

impl MaskedModel {
    /// Puts the head on an encoder. A pooler, which has no part in this, is left out.
    ///
    /// # Errors
    /// If the encoder's sizes don't fit together.
    pub fn new(config: EncoderConfig) -> Result<Self, ModelError> {
        let encoder = Encoder::new(EncoderConfig { pooler: false, ..config })?;
        let config = encoder.config();
        let (c, v) = (config.hidden_size, config.vocab_size);
        let mut specs = Specs { list: encoder.specs().to_vec(), eps: config.norm_eps };
        let mut head =
            Linear { weight: encoder.token_embeddings(), bias: None, inputs: c, outputs: v, in_out: false };
        let mut transform = None;
        match config.family {
            EncoderFamily::Bert => {
                let at = |name: &str| format!("cls.predictions.{name}");
                head.bias = Some(specs.add(at("bias"), &[v], Init::Zeros, Role::Vector));
                let dense = specs.linear(&at("transform.dense"), c, c);
                transform = Some((dense, specs.norm(&at("transform.LayerNorm"), c)));
            }
            EncoderFamily::EuroBert(own) if !own.tied_head => {
                let name = "lm_head.weight".to_owned();
                head.weight = specs.add(name, &[v, c], Init::Residual(0.02), Role::Head);
            }
            EncoderFamily::EuroBert(_) => {}
        }
        let specs = specs.list;
        Ok(MaskedModel { encoder: TrainableEncoder::new(encoder), transform, head, specs })
    }

    /// The encoder under the head.
    pub fn encoder(&self) -> &Encoder {
        self.encoder.encoder()
    }

    /// All parameters, in the order of [`ParamId`](crate::executor::ParamId)s.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Number of parameters.
    pub fn n_params(&self) -> usize {
        self.specs.iter().map(|s| s.shape.iter().product::<usize>()).sum()
    }

    /// Turns dropout on or off, see [`TrainableEncoder`].
    pub fn set_dropout(&mut self, dropout: f32, seed: u64) {
        (self.encoder.dropout, self.encoder.dropout_seed) = (dropout, seed);
    }

    /// What the head multiplies, for some rows of a batch: [rows, C].
    fn states(&self, weights: &Weights, batch: &TokenBatch, rows: &[u32]) -> Result<Tensor, ModelError> {
        let hidden = self.encoder.hidden(weights, batch)?;
        let masked = nn::embedding(&hidden, rows)?;
        let Some((dense, norm)) = &self.transform else { return Ok(masked) };
        let bias = dense.bias.map(|b| weights.get(b));
        let activation = Some(self.encoder().config().activation);
        let dense = nn::linear(&masked, weights.get(dense.weight), bias, activation)?;
        let shift = norm.shift.map(|s| weights.get(s));
        Ok(nn::layer_norm(&dense, weights.get(norm.scale), shift, norm.eps)?)
    }

    /// Mean cross-entropy of `targets`, one for each of `rows` (a row of the batch twice over isn't meant); the
    /// logits of all of them never exist together.
    ///
    /// # Errors
    /// If the batch doesn't fit the model, or there isn't one target a row.
    pub fn loss(
        &self,
        weights: &Weights,
        batch: &TokenBatch,
        rows: &[u32],
        targets: &[i32],
        options: &CrossEntropyOptions,
    ) -> Result<LossOutput, ModelError> {
        let states = self.states(weights, batch, rows)?;
        let bias = self.head.bias.map(|b| weights.get(b));
        Ok(nn::linear_cross_entropy(&states, weights.get(self.head.weight), bias, targets, options)?)
    }

    /// Logits of some rows of a batch, without gradients: [rows, V].
    ///
    /// # Errors
    /// If the batch doesn't fit the model.
    pub fn logits(&self, weights: &Weights, batch: &TokenBatch, rows: &[u32]) -> Result<Tensor, ModelError> {
        no_grad(|| {
            let states = self.states(weights, batch, rows)?;
            let bias = self.head.bias.map(|b| weights.get(b));
            Ok(nn::linear(&states, weights.get(self.head.weight), bias, None)?)
        })
    }
}

/// Opens an encoder's folder for masked-language modelling. What the folder has no head for is initialised from
/// `seed`; the last of what is given says whether that was so.
///
/// # Errors
/// Those of [`EncoderFolder::open`], or if a part of the head is missing or has another shape.
pub fn load_masked_folder(dir: &Path, seed: u64) -> Result<(MaskedModel, Weights, bool), ModelError> {
    let EncoderFolder { encoder, weights, heads, .. } = EncoderFolder::open(dir)?;
    with_masked_head(&encoder, &weights, &heads, &dir.display().to_string(), seed)
}

/// Puts a head for masked-language modelling on an encoder: the one in `heads`, by the names of its tensors, or one that is
/// initialised from `seed`; the last of what is given says whether that was so. `place` says in errors where the encoder
/// came from.
///
/// # Errors
/// If a part of the head is missing or has another shape.
pub fn with_masked_head(
    encoder: &Encoder,
    pretrained: &Weights,
    heads: &HashMap<String, Tensor>,
    place: &str,
    seed: u64,
) -> Result<(MaskedModel, Weights, bool), ModelError> {
    let model = MaskedModel::new(encoder.config().clone())?;
    let mut found: HashMap<&str, &Tensor> =
        encoder.specs().iter().map(|s| s.name.as_str()).zip(pretrained.tensors()).collect();
    found.extend(heads.iter().map(|(name, tensor)| (name.as_str(), tensor)));
    let head = &model.specs[model.encoder().specs().len()..];
    let fresh = !head.is_empty() && head.iter().all(|spec| !found.contains_key(spec.name.as_str()));
    let mut weights = Weights::init(&model, seed, false);
    for (spec, tensor) in model.specs.iter().zip(weights.tensors_mut()) {
        let expected = &spec.shape;
        let problem = match found.get(spec.name.as_str()) {
            Some(found) if found.shape() == expected => {
                *tensor = (*found).clone().parameter();
                continue;
            }
            // Only the head can be missing: the encoder is whole.
            None if fresh => continue,
            Some(found) => format!("{}: expected shape {expected:?}, got {:?}", spec.name, found.shape()),
            None => format!("no tensor {}, expected shape {expected:?}", spec.name),
        };
        return Err(ModelError::Config { place: place.to_owned(), problem });
    }
    Ok((model, weights, fresh))
}

/// Writes `model.safetensors` and `config.json`, the latter last, so that a folder that has one is whole.
///
/// # Errors
/// If the disk fails.
pub fn save_masked_folder(
    dir: &Path,
    model: &MaskedModel,
    weights: &Weights,
    dtype: StoredType,
) -> Result<(), ModelError> {
    fs_err::create_dir_all(dir)?;
    write_encoder_tensors(dir, model.encoder(), &model.specs, weights, dtype)?;
    let config = model.encoder().config();
    let mut json = encoder_config_to_json(config, dtype.name());
    json["architectures"] = json!([format!("{}ForMaskedLM", config.family.class_prefix())]);
    write_json(&dir.join("config.json"), &json)
}
