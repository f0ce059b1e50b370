//! Heads: what turns the hidden states of an encoder or a decoder into the answers of a task. Names, shapes and
//! computations are those of `transformers`' classes `…ForSequenceClassification`, `…ForTokenClassification` and
//! `…ForQuestionAnswering`, so that what is trained here opens there.
//!
//! BERT answers about a whole sequence from its pooler's vector of the first token (Devlin et al. 2019,
//! section 3.2), EuroBERT from the mean over all tokens of `gelu(W h + b)`, a decoder from the last token's hidden
//! state, which has seen all others.

use crate::config::Family;
use crate::encoder::{Encoder, EncoderConfig, EncoderFamily};
use crate::error::ModelError;
use crate::executor::{Init, Linear, ParamId, ParamSpec, Role};
use crate::lora::Lora;
use crate::tape::{TokenBatch, Trainable, TrainableEncoder};
use crate::weights::Weights;
use hearth_kernel::activation::Activation;
use hearth_tensor::{Rng, Tensor, nn};

/// What is answered, and how many numbers an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// So many numbers a sequence: logits of classes, or a value.
    Sequence(usize),
    /// So many numbers a token.
    Tokens(usize),
    /// Two numbers a token: logits of being the first and the last of an answer.
    Span,
}

impl Task {
    /// Numbers an answer.
    pub fn outputs(self) -> usize {
        match self {
            Task::Sequence(n) | Task::Tokens(n) => n,
            Task::Span => 2,
        }
    }
}

/// An architecture without weights, ready to be trained.
#[derive(Debug)]
pub enum Backbone {
    /// Every token sees all of its sequence.
    Encoder(TrainableEncoder),
    /// A token sees its sequence up to itself.
    Decoder(Trainable),
}

impl Backbone {
    /// C.
    pub fn hidden_size(&self) -> usize {
        match self {
            Backbone::Encoder(model) => model.encoder().config().hidden_size,
            Backbone::Decoder(model) => model.decoder().config().hidden_size,
        }
    }

    /// Most tokens of a sequence.
    pub fn max_positions(&self) -> usize {
        match self {
            Backbone::Encoder(model) => model.encoder().config().max_positions,
            Backbone::Decoder(model) => model.decoder().config().max_positions,
        }
    }

    /// Blocks.
    pub fn n_layers(&self) -> usize {
        match self {
            Backbone::Encoder(model) => model.encoder().config().n_layers,
            Backbone::Decoder(model) => model.decoder().config().n_layers,
        }
    }

    /// Whether matrices are stored [in, out].
    pub fn stores_in_out(&self) -> bool {
        matches!(self, Backbone::Decoder(model) if model.decoder().config().family.stores_in_out())
    }

    /// What the classes of `transformers` with a head put in front of the architecture's names.
    pub fn name_prefix(&self) -> &'static str {
        match self {
            Backbone::Encoder(model) => model.encoder().config().family.name_prefix(),
            // A decoder's names have it already.
            Backbone::Decoder(_) => "",
        }
    }

    /// V.
    pub fn vocab_size(&self) -> usize {
        match self {
            Backbone::Encoder(model) => model.encoder().config().vocab_size,
            Backbone::Decoder(model) => model.decoder().config().vocab_size,
        }
    }

    /// The parameters of the architecture alone.
    pub fn specs(&self) -> &[ParamSpec] {
        match self {
            Backbone::Encoder(model) => model.encoder().specs(),
            Backbone::Decoder(model) => model.decoder().specs(),
        }
    }

    /// The updates of low rank, if it has any.
    pub fn lora(&self) -> Option<&Lora> {
        match self {
            Backbone::Encoder(model) => model.lora.as_ref(),
            Backbone::Decoder(model) => model.lora.as_ref(),
        }
    }

    /// Gives it updates of low rank, or takes them away.
    pub fn set_lora(&mut self, lora: Option<Lora>) {
        match self {
            Backbone::Encoder(model) => model.lora = lora,
            Backbone::Decoder(model) => model.lora = lora,
        }
    }

    /// The final hidden states [N, C]. Where the architecture has dropout, values are zeroed with probability `dropout`;
    /// the same `seed` zeroes the same ones. Decoders of today have none; the GPTs that had it take it as in pretraining.
    ///
    /// # Errors
    /// If the batch doesn't fit the model.
    pub fn hidden(
        &mut self,
        weights: &Weights,
        batch: &TokenBatch,
        dropout: f32,
        seed: u64,
    ) -> Result<Tensor, ModelError> {
        match self {
            Backbone::Encoder(model) => {
                (model.dropout, model.dropout_seed) = (dropout, seed);
                model.hidden(weights, batch)
            }
            Backbone::Decoder(model) => {
                (model.dropout, model.dropout_seed) = (dropout, seed);
                model.hidden(weights, batch)
            }
        }
    }

    /// Sequences side by side without padding, each of which sees only itself.
    pub fn batch(&self, sequences: &[&[u32]]) -> TokenBatch {
        match self {
            Backbone::Encoder(_) => TokenBatch::bidirectional(sequences),
            Backbone::Decoder(_) => {
                let segments: Vec<u32> =
                    (0..).zip(sequences).flat_map(|(i, s)| std::iter::repeat_n(i, s.len())).collect();
                let positions = sequences.iter().flat_map(|s| 0..s.len() as u32).collect();
                TokenBatch::packed(sequences.concat(), 1, &segments, positions)
            }
        }
    }
}

/// An architecture with a head: its parameters are those of the architecture, followed by the head's.
#[derive(Debug)]
pub struct TaskModel {
    backbone: Backbone,
    task: Task,
    /// EuroBERT's layer between hidden states and head.
    dense: Option<Linear>,
    head: Linear,
    specs: Vec<ParamSpec>,
    /// Probability of zeroing a value where BERT has dropout, and in what the head sees; 0 turns it off.
    pub dropout: f32,
    /// Which values: a new seed a step gives new masks, the same seed the same ones.
    pub dropout_seed: u64,
}

impl AsRef<[ParamSpec]> for TaskModel {
    fn as_ref(&self) -> &[ParamSpec] {
        &self.specs
    }
}

impl TaskModel {
    /// Puts a head on an architecture. A BERT that is asked about sequences gains a pooler if it has none.
    ///
    /// # Errors
    /// If the task has no outputs, or `transformers` has no class for it.
    pub fn new(backbone: Backbone, task: Task) -> Result<Self, ModelError> {
        if task.outputs() == 0 {
            let problem = "a head with no outputs, expected at least one label".to_owned();
            return Err(ModelError::Config { place: "task".into(), problem });
        }
        let family = match &backbone {
            Backbone::Encoder(model) => Some(model.encoder().config().family),
            Backbone::Decoder(_) => None,
        };
        let eurobert = matches!(family, Some(EncoderFamily::EuroBert(_)));
        check_class(&backbone, task)?;
        let backbone = match (backbone, task) {
            (Backbone::Encoder(model), Task::Sequence(_))
                if family == Some(EncoderFamily::Bert) && model.encoder().pooler().is_none() =>
            {
                let config = EncoderConfig { pooler: true, ..model.encoder().config().clone() };
                Backbone::Encoder(TrainableEncoder::new(Encoder::new(config)?))
            }
            (other, _) => other,
        };
        let mut specs = backbone.specs().to_vec();
        let (inputs, outputs) = (backbone.hidden_size(), task.outputs());
        let (name, biased) = match (&backbone, task) {
            (_, Task::Span) => ("qa_outputs", true),
            (Backbone::Encoder(_), _) => ("classifier", true),
            (Backbone::Decoder(_), Task::Sequence(_)) => ("score", false),
            (Backbone::Decoder(model), Task::Tokens(_))
                if model.decoder().config().family == Family::Gpt2 =>
            {
                ("classifier", true)
            }
            (Backbone::Decoder(_), Task::Tokens(_)) => ("score", true),
        };
        let mut linear = |name: &str, outputs: usize, role: Role, biased: bool| {
            let mut add = |name: String, shape: &[usize], init, role| {
                specs.push(ParamSpec { name, shape: shape.to_vec(), init, role });
                ParamId(specs.len() - 1)
            };
            let weight = add(format!("{name}.weight"), &[outputs, inputs], Init::Normal(0.02), role);
            let bias = biased.then(|| add(format!("{name}.bias"), &[outputs], Init::Zeros, Role::Vector));
            Linear { weight, bias, inputs, outputs, in_out: false }
        };
        let between = eurobert && matches!(task, Task::Sequence(_));
        let dense = between.then(|| linear("dense", inputs, Role::Matrix, true));
        let head = linear(name, outputs, Role::Head, biased);
        Ok(TaskModel { backbone, task, dense, head, specs, dropout: 0.0, dropout_seed: 0 })
    }

    /// The architecture under the head.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// What is answered.
    pub fn task(&self) -> Task {
        self.task
    }

    /// The layer over hidden states, followed by GELU, whose mean over a sequence the head of a EuroBERT sees.
    pub fn dense(&self) -> Option<&Linear> {
        self.dense.as_ref()
    }

    /// The head's layer.
    pub fn head(&self) -> &Linear {
        &self.head
    }

    /// All parameters, in the order of [`ParamId`]s.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Gives the architecture updates of low rank over this model's parameters; theirs follow.
    pub fn set_lora(&mut self, lora: Lora) {
        self.specs.extend(lora.specs().iter().cloned());
        self.backbone.set_lora(Some(lora));
    }

    /// The updates of low rank, if it has any.
    pub fn lora(&self) -> Option<&Lora> {
        self.backbone.lora()
    }

    /// Number of parameters.
    pub fn n_params(&self) -> usize {
        self.specs.iter().map(|s| s.shape.iter().product::<usize>()).sum()
    }

    /// The weights of a pretrained architecture, given by name; what it doesn't have, a head above all, is
    /// initialised from `seed`.
    ///
    /// # Errors
    /// If a tensor has another shape.
    pub fn weights(
        &self,
        mut pretrained: impl FnMut(&ParamSpec) -> Option<Tensor>,
        seed: u64,
    ) -> Result<Weights, ModelError> {
        let mut rng = Rng::new(seed);
        let tensors = self.specs.iter().map(|spec| {
            pretrained(spec).unwrap_or_else(|| match spec.init {
                Init::Zeros => Tensor::zeros(&spec.shape),
                Init::Ones => Tensor::ones(&spec.shape),
                Init::Normal(std) | Init::Residual(std) => Tensor::randn(&spec.shape, std, &mut rng),
            })
        });
        Weights::from_tensors(self, tensors.collect())
    }

    /// The head's numbers: [sequences, outputs] for a task about sequences, else [N, outputs].
    ///
    /// # Errors
    /// If the batch doesn't fit the model.
    pub fn logits(&mut self, weights: &Weights, batch: &TokenBatch) -> Result<Tensor, ModelError> {
        let (dropout, seed) = (self.dropout, self.dropout_seed);
        let hidden = self.backbone.hidden(weights, batch, dropout, seed)?;
        let states = match (self.task, &self.backbone, &self.dense) {
            (Task::Sequence(_), Backbone::Encoder(_), Some(dense)) => {
                let bias = dense.bias.map(|b| weights.get(b));
                let activation = Some(Activation::GeluErf);
                let states = nn::linear(&hidden, weights.get(dense.weight), bias, activation)?;
                sequence_means(batch, &states)?
            }
            (Task::Sequence(_), Backbone::Encoder(encoder), None) => {
                encoder.pooled(weights, batch, &hidden)?
            }
            (Task::Sequence(_), Backbone::Decoder(_), _) => nn::embedding(&hidden, &batch.last_rows())?,
            (Task::Tokens(_) | Task::Span, ..) => hidden,
        };
        // BERT's question answering alone has none before its head.
        let states = match dropout > 0.0 && self.task != Task::Span {
            true => states.dropout(dropout, seed ^ HEAD_DROPOUT)?,
            false => states,
        };
        let bias = self.head.bias.map(|b| weights.get(b));
        Ok(nn::linear(&states, weights.get(self.head.weight), bias, None)?)
    }
}

/// Whether `transformers` has a class for the task on this architecture.
fn check_class(backbone: &Backbone, task: Task) -> Result<(), ModelError> {
    let problem = match (backbone, task) {
        (Backbone::Encoder(model), Task::Span)
            if matches!(model.encoder().config().family, EncoderFamily::EuroBert(_)) =>
        {
            "a eurobert has no head that finds spans\nhint: a bert has".to_owned()
        }
        (Backbone::Decoder(_), Task::Span) => {
            "a decoder's tokens don't see what comes after them, and have no head that finds spans\nhint: start from \
             a bert"
                .to_owned()
        }
        (Backbone::Decoder(model), Task::Tokens(_))
            if matches!(model.decoder().config().family, Family::Gpt1 | Family::Gemma3) =>
        {
            let kind = model.decoder().config().family.model_type();
            format!("transformers has no class that puts labels on the tokens of a {kind}\nhint: start from an encoder")
        }
        _ => return Ok(()),
    };
    Err(ModelError::Config { place: "task".into(), problem })
}

/// The mean of each sequence's rows of x [N, C]: [sequences, C].
fn sequence_means(batch: &TokenBatch, x: &Tensor) -> Result<Tensor, ModelError> {
    let (firsts, lasts, n) = (batch.first_rows(), batch.last_rows(), x.shape()[0]);
    // A product with shares of a sequence is small beside those of a block.
    let mut shares = vec![0.0; firsts.len() * n];
    for ((share, first), last) in shares.chunks_exact_mut(n.max(1)).zip(&firsts).zip(&lasts) {
        share[*first as usize..=*last as usize].fill(1.0 / (last - first + 1) as f32);
    }
    Ok(Tensor::from_vec(shares, &[firsts.len(), n])?.matmul(x)?)
}

/// Sets the head's dropout apart from that of the blocks.
const HEAD_DROPOUT: u64 = 0x6A09_E667_F3BC_C908;
