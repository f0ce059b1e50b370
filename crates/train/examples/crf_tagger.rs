//! Trains a tagger on one CoNLL file and tags another: `crf_tagger TRAIN TEST [crf|hmm|cnn|rnn|lstm|gru] [words|characters] [C1 C2 [ITERATIONS]]`.
//! Prints the tags of TEST, one a line, with an empty line after each sentence; `bench/peers/crf_tagger.py` scores them.

use hearth_train::classical::crf::{CrfSettings, CrfTagger, Template};
use hearth_train::classical::hmm::HmmTagger;
use hearth_train::finetune::fit::{Event, Observer};
use hearth_train::metrics::spans::span_counts;
use hearth_train::neural::{Answer, Example, Examples, Features, Kind, Trained, fit_network};
use std::collections::BTreeSet;
use std::error::Error;
use std::ops::ControlFlow;
use std::time::Instant;

/// Tokens with their tags.
type Sentence = Vec<(String, String)>;
/// From tokens to tags.
type Tagger = Box<dyn Fn(&[String]) -> Vec<usize>>;

/// Tokens and tags of each sentence: the first and the last field of a line, fields separated by tabs.
fn read(path: &str) -> Result<Vec<Sentence>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path)?;
    let field = |line: &str| line.split_once('\t').map(|(token, tag)| (token.to_owned(), tag.to_owned()));
    let sentence = |block: &str| block.lines().map(|line| field(line).ok_or(line.to_owned())).collect();
    let blocks = text.split("\n\n").map(str::trim_end).filter(|block| !block.is_empty());
    let sentences: Result<Vec<_>, String> = blocks.map(sentence).collect();
    sentences.map_err(|line| format!("{path}: no tab in {line:?}").into())
}

/// A network under a CRF. A tenth of the sentences chooses the epoch.
fn neural_tagger(
    kind: Kind,
    sentences: &[Vec<String>],
    tags: &[Vec<usize>],
    names: &[&String],
) -> Result<Tagger, Box<dyn Error>> {
    let features = Features::of_sentences(sentences, Template::for_sentences(sentences))?;
    let whole = sentences.iter().map(|sentence| features.sentence(sentence)).zip(tags);
    let (heldout, training): (Vec<_>, Vec<_>) = whole.enumerate().partition(|(i, _)| i % 10 == 0);
    let training: Vec<Example> = training
        .into_iter()
        .map(|(_, (tokens, labels))| Example { tokens, labels: labels.clone() })
        .collect();
    let (heldout, gold): (Vec<_>, Vec<&Vec<usize>>) = heldout.into_iter().map(|(_, pair)| pair).unzip();
    let named = |tags: &[usize]| -> Vec<&str> { tags.iter().map(|&tag| names[tag].as_str()).collect() };
    let gold: Vec<Vec<&str>> = gold.into_iter().map(|tags| named(tags)).collect();
    let score = |found: &[Vec<usize>]| {
        let found: Vec<Vec<&str>> = found.iter().map(|tags| named(tags)).collect();
        span_counts(&gold, &found).micro_average().f1
    };
    let examples = Examples {
        training: &training,
        heldout: &heldout,
        score: &score,
        features: features.len(),
        labels: names.len(),
    };
    let Trained { network, weights, .. } = fit_network(kind, Answer::TagsInARow, &examples, 0, &mut Silent)?;
    eprintln!("{kind:?}, {} features", features.len());
    Ok(Box::new(move |sentence| {
        let tokens = features.sentence(sentence);
        network.predict(&weights, &[&tokens]).map_or_else(|_| Vec::new(), |mut tags| tags.remove(0))
    }))
}

struct Silent;

impl Observer for Silent {
    fn say(&mut self, _: &str) {}
    fn event(&mut self, event: &Event) {
        if let Event::Look { step, metrics, .. } = event {
            eprintln!("step {step}: {metrics:?}");
        }
    }
    fn stop(&mut self) -> bool {
        false
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [train, test, rest @ ..] = arguments.as_slice() else {
        return Err(
            "usage: crf_tagger TRAIN TEST [crf|hmm|cnn|rnn|lstm|gru] [words|characters] [C1 C2 [ITERATIONS]]"
                .into(),
        );
    };
    let (training, test) = (read(train)?, read(test)?);
    let names: Vec<&String> =
        training.iter().flatten().map(|(_, tag)| tag).collect::<BTreeSet<_>>().into_iter().collect();
    let tokens = |sentences: &[Sentence]| -> Vec<Vec<String>> {
        sentences.iter().map(|sentence| sentence.iter().map(|(token, _)| token.clone()).collect()).collect()
    };
    let id = |(_, tag): &(String, String)| names.binary_search(&tag).map_err(|_| tag.clone());
    let tags: Result<Vec<Vec<usize>>, String> =
        training.iter().map(|sentence| sentence.iter().map(id).collect()).collect();
    let (sentences, tags) = (tokens(&training), tags?);
    let start = Instant::now();
    let tag: Tagger = match rest.first().map(String::as_str) {
        Some(name @ ("cnn" | "rnn" | "lstm" | "gru")) => {
            let kind = Kind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name));
            neural_tagger(kind.unwrap_or(Kind::Lstm), &sentences, &tags, &names)?
        }
        Some("hmm") => {
            let tagger = HmmTagger::fit(&sentences, &tags, names.len())?;
            Box::new(move |sentence| tagger.tag(sentence))
        }
        _ => {
            let template = match rest.get(1).map(String::as_str) {
                Some("words") => Template::Words,
                Some("characters") => Template::Characters,
                _ => Template::for_sentences(&sentences),
            };
            let mut settings = CrfSettings::default();
            if let [c1, c2, more @ ..] = rest.get(2..).unwrap_or_default() {
                (settings.c1, settings.c2) = (c1.parse()?, c2.parse()?);
                if let Some(iterations) = more.first() {
                    settings.max_iterations = iterations.parse()?;
                }
            }
            let mut last = None;
            let tagger = CrfTagger::fit(&sentences, &tags, names.len(), template, &settings, |progress| {
                last = Some(progress);
                ControlFlow::Continue(())
            })?;
            let weights = tagger.crf().n_weights();
            eprintln!("{template:?}, {settings:?}, {weights} weights, {last:?}");
            Box::new(move |sentence| tagger.tag(sentence))
        }
    };
    eprintln!("trained in {:.1} s", start.elapsed().as_secs_f64());
    for sentence in tokens(&test) {
        tag(&sentence).iter().for_each(|&tag| println!("{}", names[tag]));
        println!();
    }
    Ok(())
}
