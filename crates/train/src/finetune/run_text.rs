//! From conversations or texts to the folder of a decoder that goes on like them: a whole model, or an adapter.

use crate::error::TrainError;
use crate::finetune::adapt::Parameters;
use crate::finetune::fit::{Observer, fit};
use crate::finetune::folder::{Finished, Outcome, Parts, parts};
use crate::finetune::report::Wrong;
use crate::finetune::settings::{Adapt, Settings, TooLong};
use crate::finetune::text::{TextLearner, judge_texts};
use hearth_data::labelled::{ChatExample, Example, Loaded, TextExample};
use hearth_engine::{
    ChatTemplate, Lesson, Message, ModelFiles, SpecialRules, frame_conversation, frame_document,
    frame_infill, with_template,
};
use hearth_model::hf::SpecialIds;
use hearth_model::tape::Trainable;
use hearth_model::{Adapter, AdapterOf, StoredType, Weights, save_adapter, save_folder};
use hearth_tensor::Rng;
use hearth_tokenizer::Tokenizer;
use serde_json::{Map, json};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// How a model presents conversations.
pub struct Conversations {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    /// Whether the template isn't the model's own.
    pub plain: bool,
}

impl Conversations {
    /// The model's own template, or a plain one.
    ///
    /// # Errors
    /// If the template isn't one, or there can be none.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, TrainError> {
        let (tokenizer, plain) = with_template(tokenizer)?;
        let template = ChatTemplate::of(&tokenizer)?.expect("with_template gives one");
        // A template may write the date: one moment for all conversations.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Ok(Conversations { tokenizer, template: template.at(now), plain })
    }

    /// A conversation, token by token with what is learnt.
    ///
    /// # Errors
    /// What the template refuses.
    pub fn lessons(&self, example: &ChatExample) -> Result<Vec<Lesson>, TrainError> {
        let messages: Vec<Message> = example
            .turns
            .iter()
            .map(|turn| Message::new(turn.role.to_string(), turn.text.as_str()))
            .collect();
        let learnt: Vec<bool> = example.turns.iter().map(|turn| turn.trains).collect();
        Ok(frame_conversation(&self.tokenizer, &self.template, &messages, &learnt)?)
    }
}

/// Fine-tunes the decoder `model` on conversations, and writes the result into `out`: a model folder, or an adapter in
/// PEFT's format. Held-out conversations are `heldout`, or a share of `training` chosen by hash.
///
/// # Errors
/// If the model or the conversations can't be used, or the disk fails; nothing is written then.
pub fn finetune_chat(
    model: &Path,
    training: Loaded<ChatExample>,
    heldout: Option<Loaded<ChatExample>>,
    settings: &Settings,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    settings.check()?;
    let (files, adapter) = open(model, settings)?;
    let conversations = Conversations::of(files.tokenizer())?;
    if conversations.plain {
        observer.say("the model has no chat template: it gets a plain one, with speakers by name");
    }
    let parts = parts(training, heldout, settings.holdout)?;
    let mut run = Run::new("chat", "Conversations", &files, parts, |x| conversations.lessons(x))?;
    let mut config = conversations.tokenizer.config().clone();
    // The token that ends an answer has to end generation, here and wherever the folder goes.
    if let Some(end) = run.training.iter().find_map(last_learnt)
        && files.tokenizer().eos() != Some(end)
        && let Some(token) = files.tokenizer().token_of(end)
    {
        observer.say(&format!("answers end with {token}, which becomes the model's eos token"));
        config.insert("eos_token".into(), json!(token));
    }
    run.tokenizer = conversations.tokenizer.with_config(config);
    run.finish(model, (files, adapter), settings, out, observer)
}

/// The model's files, and the adapter that is trained further, if one is.
fn open(model: &Path, settings: &Settings) -> Result<(ModelFiles, Option<Adapter>), TrainError> {
    if matches!(settings.adapt, Adapt::Further { .. }) {
        let (files, adapter) = ModelFiles::open_apart(model)?;
        return Ok((files, Some(adapter)));
    }
    Ok((ModelFiles::open(model)?, None))
}

/// The last token that is learnt.
fn last_learnt(lesson: &Lesson) -> Option<u32> {
    lesson.learnt.iter().rposition(|&learnt| learnt).map(|i| lesson.ids[i])
}

/// Fine-tunes the decoder `model` on texts. A share `infill` of them, chosen by `settings.seed`, is turned into a
/// prefix, a suffix and the middle between them, cut at random characters.
///
/// # Errors
/// If the model or the texts can't be used, or the disk fails; nothing is written then.
pub fn finetune_complete(
    model: &Path,
    training: Loaded<TextExample>,
    heldout: Option<Loaded<TextExample>>,
    infill: f64,
    settings: &Settings,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    settings.check()?;
    let (files, adapter) = open(model, settings)?;
    let limit = settings.max_tokens.min(files.decoder().config().max_positions);
    let texts =
        Texts { tokenizer: files.tokenizer(), special: files.special(), infill, limit, seed: settings.seed };
    // One text can't be divided by hash.
    let ends = match (&heldout, &training.examples[..]) {
        (None, [text]) => Some(end_apart(text, settings.holdout)),
        _ => None,
    };
    let (training, heldout) = match ends {
        None => (training, heldout),
        Some([kept, end]) => {
            observer.say("one text: what is held out is its end");
            // The file counts once.
            let end = Loaded { sources: Vec::new(), ..training.with(vec![end]) };
            (training.with(vec![kept]), Some(end))
        }
    };
    let parts = parts(training, heldout, settings.holdout)?;
    let mut run = Run::new("complete", "Texts", &files, parts, |x| texts.lessons(x))?;
    run.about.insert("infill".into(), json!(infill));
    run.finish(model, (files, adapter), settings, out, observer)
}

/// A text without its last `share`, and that. They part at the end of a line if one is near.
fn end_apart(example: &TextExample, share: f64) -> [TextExample; 2] {
    let text = example.text.as_str();
    let cut = text.floor_char_boundary((text.len() as f64 * (1.0 - share)) as usize);
    // Not so near to the beginning that nothing is left.
    let (line, least) = (text[..cut].rfind('\n').map_or(0, |at| at + 1), cut / 2);
    let (kept, end) = text.split_at(if line > least { line } else { cut });
    [kept, end].map(|part| TextExample { text: part.to_owned(), ..example.clone() })
}

/// How a model is shown texts.
pub struct Texts<'a> {
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The tokens around texts and gaps.
    pub special: &'a SpecialRules,
    /// The share of texts with a gap.
    pub infill: f64,
    /// Longer texts go in stretches of so many tokens.
    pub limit: usize,
    /// Decides which get a gap, and where.
    pub seed: u64,
}

impl Texts<'_> {
    /// A text, token by token; a long one in stretches. Where there are to be gaps, stretches are of whole lines, and
    /// each may get one (the context-level gaps of Bavarian et al. 2022), so that none loses its middle to the limit.
    ///
    /// # Errors
    /// If the model can't fill in and is asked to, or a character has no token.
    pub fn lessons(&self, example: &TextExample) -> Result<Vec<Lesson>, TrainError> {
        let place = (example.place.file as u64) << 40 | example.place.line;
        let mut rng = Rng::new(self.seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let stretches = match self.infill > 0.0 {
            true => self.stretches(&example.text)?,
            false => vec![example.text.as_str()],
        };
        let mut lessons = Vec::new();
        for &text in &stretches {
            if f64::from(rng.uniform()) < self.infill {
                let mut cuts =
                    [0; 2].map(|_| text.floor_char_boundary(rng.below(text.len() as u64 + 1) as usize));
                cuts.sort_unstable();
                let parts = [&text[..cuts[0]], &text[cuts[0]..cuts[1]], &text[cuts[1]..]];
                lessons.push(frame_infill(self.tokenizer, self.special, parts)?);
            } else if stretches.len() == 1 {
                lessons.extend(self.chunks(&frame_document(self.tokenizer, self.special, text)?));
            } else {
                // Neither the beginning of a text nor its end, as far as the model is told.
                let ids = self.tokenizer.encode(text)?;
                lessons.extend(self.chunks(&Lesson { learnt: vec![true; ids.len()], ids }));
            }
        }
        Ok(lessons)
    }

    fn chunks(&self, whole: &Lesson) -> Vec<Lesson> {
        let stretch =
            |(ids, learnt): (&[u32], &[bool])| Lesson { ids: ids.to_vec(), learnt: learnt.to_vec() };
        whole.ids.chunks(self.limit).zip(whole.learnt.chunks(self.limit)).map(stretch).collect()
    }

    /// A text in stretches of whole lines that have room for a gap; a line that is too long by itself stays whole.
    fn stretches<'t>(&self, text: &'t str) -> Result<Vec<&'t str>, TrainError> {
        let room = self.limit.saturating_sub(GAP_TOKENS);
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let (mut stretches, mut from, mut at, mut tokens) = (Vec::new(), 0, 0, 0);
        for (line, ids) in lines.iter().zip(self.tokenizer.encode_batch(&lines)?) {
            if tokens + ids.len() > room && at > from {
                stretches.push(&text[from..at]);
                (from, tokens) = (at, 0);
            }
            (at, tokens) = (at + line.len(), tokens + ids.len());
        }
        stretches.push(&text[from..]);
        Ok(stretches)
    }
}

/// Tokens around a text with a gap, with some for those that the cuts take apart.
const GAP_TOKENS: usize = 16;

/// A run before it is known how the model is adapted.
struct Run {
    task: (&'static str, &'static str),
    sources: Vec<crate::checkpoint::SourceFile>,
    training: Vec<Lesson>,
    heldout: Vec<Lesson>,
    tokenizer: Tokenizer,
    about: Map<String, serde_json::Value>,
}

impl Run {
    fn new<X: Example>(
        task: &'static str,
        title: &'static str,
        files: &ModelFiles,
        parts: Parts<X>,
        lessons: impl Fn(&X) -> Result<Vec<Lesson>, TrainError>,
    ) -> Result<Self, TrainError> {
        let Parts { sources, training, heldout } = parts;
        let framed = |examples: &[X]| -> Result<Vec<Lesson>, TrainError> {
            let lists: Vec<Vec<Lesson>> = examples.iter().map(&lessons).collect::<Result<_, _>>()?;
            Ok(lists.into_iter().flatten().collect())
        };
        let (training, heldout) = (framed(&training)?, framed(&heldout)?);
        let (tokenizer, about) = (files.tokenizer().clone(), Map::new());
        Ok(Run { task: (task, title), sources, training, heldout, tokenizer, about })
    }

    fn finish(
        mut self,
        model: &Path,
        (files, adapter): (ModelFiles, Option<Adapter>),
        settings: &Settings,
        out: &Path,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let limit = settings.max_tokens.min(files.decoder().config().max_positions);
        let mut cut = 0;
        for lessons in [&mut self.training, &mut self.heldout] {
            cut += fit_into(lessons, limit, settings.too_long)?;
        }
        if self.training.is_empty() || self.heldout.is_empty() {
            let (training, heldout) = (self.training.len(), self.heldout.len());
            let problem = format!(
                "{training} examples to learn from and {heldout} held out, expected some of both\nhint: give more \
                 data, --valid F, a larger --holdout, or a larger --max-tokens"
            );
            return Err(TrainError::Recipe { place: "examples".into(), problem });
        }
        if cut > 0 {
            observer.say(&settings.too_long.told(cut, "examples", limit));
        }
        let mut weights = files.weights()?;
        let mut network = Trainable::new(files.decoder().clone());
        let config = files.decoder().config();
        let parameters = Parameters {
            specs: files.decoder().specs(),
            backbone: files.decoder().specs().len(),
            n_layers: config.n_layers,
            fresh: &[],
            in_out: config.family.stores_in_out(),
        };
        // What an adapter that goes on is for stays what it was for.
        let base = match &adapter {
            Some(adapter) => adapter.base.clone(),
            None => std::path::absolute(model)?.to_string_lossy().into_owned(),
        };
        network.lora = match (adapter, &settings.adapt) {
            (Some(adapter), &Adapt::Further { half }) => {
                Some(Parameters::further(&mut weights, adapter, half))
            }
            (_, adapt) => parameters.adapt(&mut weights, adapt, settings.seed)?,
        };
        let targets = |lessons: &[Lesson]| lessons.iter().map(Lesson::targets).sum::<usize>();
        observer.say(&format!(
            "{} examples with {} tokens to learn, {} held out; {}; {} steps of {} examples",
            self.training.len(),
            targets(&self.training),
            self.heldout.len(),
            Parameters::told(&weights),
            settings.steps(self.training.len()),
            settings.batch,
        ));
        let before = judge_texts(&network, &weights, &self.heldout)?;
        observer.say(&format!("before training: held-out loss {:.4}", before.metrics["loss"]));
        self.about.insert("loss_before".into(), json!(before.metrics["loss"]));
        let mut learner = TextLearner::new(&network, &self.training, &self.heldout);
        let (fitted, judgement) = fit(&mut learner, weights, settings, "loss", Some(out), observer)?;
        let ids = SpecialIds { bos: self.tokenizer.bos(), eos: self.tokenizer.eos() };
        let save = |out: &Path, weights: &Weights| match &network.lora {
            Some(lora) => {
                let of = AdapterOf { base: &base, task: "CAUSAL_LM", class_prefix: "", prefixed: usize::MAX };
                Ok(save_adapter(out, lora, files.decoder().specs(), weights, &of)?)
            }
            None => Ok(save_folder(out, files.decoder(), weights, ids, StoredType::F32)?),
        };
        Finished {
            task: self.task,
            settings: Some(settings),
            seed: settings.seed,
            sources: &self.sources,
            about: self.about,
            examples: (self.training.len(), self.heldout.len()),
            cut,
            metric: "loss",
            wrong: hardest(&self.tokenizer, &self.heldout, &judgement.losses)?,
            metrics: judgement.metrics,
            confusion: None,
            labels: Vec::new(),
            fitted,
            save: &save,
            tokenizer: Some(&self.tokenizer),
            limit: None,
            baselines: Vec::new(),
        }
        .write(out)
    }
}

/// Makes each text as short as it has to be, as `too_long` says, and counts those that were longer. Texts with nothing
/// left to learn are left out.
fn fit_into(lessons: &mut Vec<Lesson>, limit: usize, too_long: TooLong) -> Result<usize, TrainError> {
    let count = lessons.iter().filter(|lesson| lesson.ids.len() > limit).count();
    too_long.check(count, lessons.len(), limit, lessons.iter().map(|lesson| lesson.ids.len()).max())?;
    if too_long == TooLong::Drop {
        lessons.retain(|lesson| lesson.ids.len() <= limit);
    }
    lessons.iter_mut().for_each(|lesson| lesson.truncate(limit));
    lessons.retain(|lesson| lesson.targets() > 0);
    Ok(count)
}

/// The texts that are predicted worst, with what stands before the last stretch that is learnt, and that.
fn hardest(tokenizer: &Tokenizer, lessons: &[Lesson], losses: &[f64]) -> Result<Vec<Wrong>, TrainError> {
    let mut list = Vec::new();
    for (lesson, loss) in lessons.iter().zip(losses) {
        let end = lesson.learnt.iter().rposition(|&learnt| learnt).map_or(0, |i| i + 1);
        let start = lesson.learnt[..end].iter().rposition(|&learnt| !learnt).map_or(0, |i| i + 1);
        list.push(Wrong {
            text: tokenizer.decode(&lesson.ids[..start], true)?,
            expected: tokenizer.decode(&lesson.ids[start..end], true)?,
            got: String::new(),
            sureness: *loss as f32,
        });
    }
    list.sort_by(|a, b| b.sureness.total_cmp(&a.sureness));
    Ok(list)
}
