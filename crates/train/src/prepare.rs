//! From files of text to a tokenizer and token shards in a run's folder.

use crate::checkpoint::SourceFile;
use crate::error::TrainError;
use crate::pretrain::Observer;
use crate::recipe::{Objective, Recipe, Source};
use hearth_data::{
    Corpus, CorpusOptions, DataError, FetchProgress, Holdout, Part, Shard, fetch, file_sha256, home,
    write_shard,
};
use hearth_engine::open_tokenizer;
use hearth_tokenizer::{
    BpeTrainer, ENCODER_TOKENS, END_OF_TEXT, PreTokenizer, Tokenizer, TrainProgress, train_chars,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Text made ready for training.
#[derive(Debug)]
pub struct Prepared {
    /// The tokenizer, saved in the run's folder.
    pub tokenizer: Tokenizer,
    /// Tokens to train on.
    pub training: Arc<Shard>,
    /// Tokens to measure on.
    pub heldout: Arc<Shard>,
    /// The files that were read; none when earlier shards are used again.
    pub sources: Vec<SourceFile>,
}

/// The files that a recipe names; named data sets come from the cache, or are fetched.
fn files_of(recipe: &Recipe, observer: &mut dyn Observer) -> Result<Vec<PathBuf>, TrainError> {
    let mut files = Vec::new();
    for source in recipe.sources() {
        match source {
            Source::Path(path) => files.push(path),
            Source::Dataset(name) => {
                let fetched = fetch(&name, &home(), |progress| match progress {
                    FetchProgress::Downloading(client) => {
                        observer.stage(&format!("fetching {name} with {}", client.name()));
                    }
                    FetchProgress::Checking | FetchProgress::Converting => {}
                })?;
                observer.stage(&format!("{name}: {} records, licence {}", fetched.records, fetched.licence));
                files.push(fetched.path);
            }
        }
    }
    if files.is_empty() {
        return Err(TrainError::Recipe {
            place: "recipe".into(),
            problem:
                "data.files names nothing to train on\nhint: give --data FILE, or name files in the recipe"
                    .into(),
        });
    }
    Ok(files)
}

/// The shards that a run has made before; none if it was stopped before they were whole.
fn made_before(run: &Path) -> Result<Option<Prepared>, TrainError> {
    let data = run.join("data");
    let whole = ["heldout", "training"].iter().all(|name| data.join(name).with_extension("json").is_file());
    if !whole || !run.join("tokenizer.json").is_file() {
        return Ok(None);
    }
    let tokenizer = Tokenizer::from_folder(run)?;
    let open = |name: &str| Shard::open(&data.join(name), &tokenizer).map(Arc::new);
    let (heldout, training) = (open("heldout")?, open("training")?);
    Ok(Some(Prepared { tokenizer, training, heldout, sources: Vec::new() }))
}

/// Reads, tokenizes and shards what `recipe` names into the run's folder `run`. With `resume`, shards
/// that are there already are used as they are.
pub fn prepare(
    recipe: &Recipe,
    run: &Path,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<Prepared, TrainError> {
    if resume && let Some(prepared) = made_before(run)? {
        return Ok(prepared);
    }
    let files = files_of(recipe, observer)?;
    let options = CorpusOptions {
        field: recipe.data.field.clone(),
        share: recipe.data.share,
        ..CorpusOptions::default()
    };
    let corpus = Corpus::open(&files, options)?;
    let mut holdout = if recipe.data.holdout_last {
        Holdout::LastFraction(recipe.data.holdout)
    } else {
        Holdout::Hash { fraction: recipe.data.holdout, salt: "hearth".into() }
    };
    let tokenizer = match tokenizer_for(recipe, &corpus, &holdout, observer) {
        Err(error) if is_empty_part(&error) => {
            holdout = Holdout::LastFraction(recipe.data.holdout);
            observer
                .stage("too few documents to hold some out by hash: holding out the end of the text instead");
            tokenizer_for(recipe, &corpus, &holdout, observer)?
        }
        other => other?,
    };
    let data = run.join("data");
    fs_err::create_dir_all(&data)?;
    let mut shard = |part: Part, name: &str| -> Result<Arc<Shard>, TrainError> {
        let path = data.join(name);
        let total = corpus.bytes_on_disk();
        write_shard(&path, holdout.documents(&corpus, part)?, &tokenizer, |progress| {
            observer.progress(&format!("encoding {name}"), progress.text_bytes, total);
        })?;
        Ok(Arc::new(Shard::open(&path, &tokenizer)?))
    };
    let (heldout, training) = (shard(Part::HeldOut, "heldout")?, shard(Part::Training, "training")?);
    tokenizer.save(run)?;
    let sources = corpus.files().iter().map(|path| source_file(path)).collect::<Result<_, _>>()?;
    Ok(Prepared { tokenizer, training, heldout, sources })
}

/// A file as the card of a model names it.
pub(crate) fn source_file(path: &Path) -> Result<SourceFile, TrainError> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(SourceFile { name, bytes: fs_err::metadata(path)?.len(), sha256: file_sha256(path)? })
}

fn is_empty_part(error: &TrainError) -> bool {
    matches!(error, TrainError::Data(DataError::EmptyPart { .. }))
}

/// Trains or loads the tokenizer. Only the training part of the text is seen.
fn tokenizer_for(
    recipe: &Recipe,
    corpus: &Corpus,
    holdout: &Holdout,
    observer: &mut dyn Observer,
) -> Result<Tokenizer, TrainError> {
    // Both parts must exist, whichever tokenizer is used.
    holdout.documents(corpus, Part::HeldOut)?.next().transpose()?;
    let texts = || -> Result<_, TrainError> {
        let documents = holdout.documents(corpus, Part::Training)?;
        Ok(documents.map(|document| document.map(|d| d.text)))
    };
    let settings = &recipe.tokenizer;
    match settings.kind.as_str() {
        "bpe" => {
            let names = PreTokenizer::ALL.map(PreTokenizer::name);
            let wanted = PreTokenizer::ALL.into_iter().find(|p| p.name() == settings.pre_tokenizer);
            let pre_tokenizer = wanted.ok_or_else(|| TrainError::Recipe {
                place: "recipe".into(),
                problem: format!(
                    "tokenizer.pre_tokenizer {:?}: expected one of {}",
                    settings.pre_tokenizer,
                    names.join(", ")
                ),
            })?;
            let mut trainer = BpeTrainer::new(settings.vocab_size, pre_tokenizer);
            if recipe.objective.kind == Some(Objective::Mlm) {
                trainer.special_tokens = ENCODER_TOKENS.map(String::from).to_vec();
            }
            let total = corpus.bytes_on_disk();
            Ok(unwrap_data(trainer.train(texts()?, |progress| match progress {
                TrainProgress::Counting { bytes, .. } => {
                    observer.progress("tokenizer: counting words", bytes, total);
                }
                TrainProgress::Merging { tokens, of } => {
                    observer.progress("tokenizer: merging pairs", tokens as u64, of as u64);
                }
            }))?)
        }
        "chars" if recipe.objective.kind == Some(Objective::Mlm) => Err(TrainError::Recipe {
            place: "recipe".into(),
            problem: "tokenizer.kind chars has no [MASK], which mlm needs\nhint: bpe has".into(),
        }),
        // Documents end with a token of their own only where there are documents.
        "chars" if recipe.data.holdout_last => Ok(unwrap_data(train_chars(texts()?, &[]))?),
        "chars" => Ok(unwrap_data(train_chars(texts()?, &[END_OF_TEXT.to_owned(), "<|unk|>".to_owned()]))?),
        path => Ok(open_tokenizer(Path::new(path))?),
    }
}

/// An error of the corpus that came through the tokenizer's trainer, as itself.
fn unwrap_data<T>(result: hearth_tokenizer::Result<T>) -> Result<T, TrainError> {
    result.map_err(|error| match error {
        hearth_tokenizer::TokenizerError::Text(inner) => match inner.downcast::<DataError>() {
            Ok(data) => TrainError::Data(*data),
            Err(inner) => TrainError::Tokenizer(hearth_tokenizer::TokenizerError::Text(inner)),
        },
        other => TrainError::Tokenizer(other),
    })
}
