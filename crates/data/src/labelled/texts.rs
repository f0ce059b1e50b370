//! Texts to go on learning from: the documents of a corpus, each an example.

use std::borrow::Cow;
use std::path::PathBuf;

use super::{Example, Loaded, Place, ReadOptions, Source};
use crate::corpus::{Corpus, CorpusOptions};
use crate::error::Result;

/// A text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextExample {
    /// It; not blank.
    pub text: String,
    /// Where it came from: the file, and the document's number in it, from 1.
    pub place: Place,
}

impl Example for TextExample {
    fn place(&self) -> Place {
        self.place
    }

    fn holdout_text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.text)
    }
}

/// Reads documents as pretraining does, see [`Corpus`]; the role `text` names the column of tables.
///
/// # Errors
/// If a file can't be read, or there is no document.
pub fn read_texts(paths: &[PathBuf], options: &ReadOptions) -> Result<Loaded<TextExample>> {
    let field = options.columns.get("text").cloned();
    let columns = field.iter().map(|field| ("text".to_owned(), field.clone())).collect();
    let corpus = Corpus::open(paths, CorpusOptions { field, ..CorpusOptions::default() })?;
    let (mut examples, mut sources) = (Vec::new(), Vec::<Source>::new());
    for document in corpus.documents() {
        let document = document?;
        if sources.last().is_none_or(|source| *source.file != *document.source) {
            let file = document.source.to_path_buf();
            sources.push(Source { file, form: "documents".to_owned(), examples: 0 });
        }
        let file = sources.len() - 1;
        sources[file].examples += 1;
        let place = Place { file, line: sources[file].examples as u64 };
        examples.push(TextExample { text: document.text, place });
    }
    Ok(Loaded { examples, bad: Vec::new(), columns, sources })
}
