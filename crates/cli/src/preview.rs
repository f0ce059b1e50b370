//! Examples as the model will see them: token by token, with those that carry loss in colour.

use hearth_data::labelled::{ClassifyExample, Label, QaExample, TagExample};
use hearth_engine::{Framing, Lesson, frame_questions, frame_texts, frame_words};
use hearth_tokenizer::Tokenizer;
use hearth_train::finetune::embed::{Pairs, Passage};
use hearth_train::finetune::qa::{answer_rows, answer_tokens};
use std::fmt::Write as _;
use std::io::IsTerminal;

/// What marks tokens that carry loss.
struct Marks {
    before: &'static str,
    after: &'static str,
}

impl Marks {
    /// Green where colours are shown, else brackets.
    fn for_stdout() -> Self {
        let coloured =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        match coloured {
            true => Marks { before: "\x1b[32m", after: "\x1b[0m" },
            false => Marks { before: "«", after: "»" },
        }
    }
}

/// Texts, with the tokens around them; what carries loss is the label.
pub fn classify(tokenizer: &Tokenizer, examples: &[ClassifyExample], limit: usize) -> anyhow::Result<String> {
    let pairs: Vec<_> = examples.iter().map(|e| (e.text.as_str(), e.second.as_deref())).collect();
    let framed = frame_texts(tokenizer, &Framing::of(tokenizer), &pairs, limit)?;
    let (marks, mut out) = (Marks::for_stdout(), String::new());
    for (input, example) in framed.iter().zip(examples) {
        let label = match &example.label {
            Label::One(label) => label.clone(),
            Label::Several(labels) => labels.join(", "),
            Label::Number(value) => value.to_string(),
        };
        writeln!(out, "{}", tokens(tokenizer, &input.ids, &marks, |_| None))?;
        let cut = if input.cut > 0 { format!(", {} more cut off", input.cut) } else { String::new() };
        let (count, Marks { before, after }) = (input.ids.len(), &marks);
        writeln!(out, "    → {before}{label}{after}   ({count} tokens{cut})\n")?;
    }
    Ok(out)
}

/// Words, with their tags on the tokens that carry them.
pub fn tag(tokenizer: &Tokenizer, examples: &[TagExample], limit: usize) -> anyhow::Result<String> {
    let words: Vec<&[String]> = examples.iter().map(|e| e.tokens.as_slice()).collect();
    let framed = frame_words(tokenizer, &Framing::of(tokenizer), &words, limit)?;
    let (marks, mut out) = (Marks::for_stdout(), String::new());
    for (pieces, example) in framed.iter().zip(examples) {
        let mut tags = example.tags.iter();
        for piece in pieces {
            let own: Vec<&String> = tags.by_ref().take(piece.rows.len()).collect();
            let tag_at = |row| piece.rows.iter().position(|&r| r == row).map(|word| own[word].as_str());
            writeln!(
                out,
                "{}   ({} tokens)",
                tokens(tokenizer, &piece.input.ids, &marks, tag_at),
                piece.input.ids.len()
            )?;
        }
        out.push('\n');
    }
    Ok(out)
}

/// Questions with each window of their passages; marked are the tokens of the answer, or what stands in front where a
/// window doesn't hold all of it.
pub fn qa(
    tokenizer: &Tokenizer,
    examples: &[QaExample],
    limit: usize,
    stride: usize,
) -> anyhow::Result<String> {
    let asked: Vec<_> = examples.iter().map(|e| (e.question.as_str(), &*e.context)).collect();
    let framed = frame_questions(tokenizer, &Framing::of(tokenizer), &asked, limit, stride)?;
    let (marks, mut out) = (Marks::for_stdout(), String::new());
    for (question, example) in framed.iter().zip(examples) {
        let answer = example.answers.first();
        let answer = answer.and_then(|answer| answer_tokens(question, &answer.bytes(&example.context)));
        for (number, window) in (1..).zip(&question.windows) {
            let (first, last) = answer_rows(window, answer.as_ref());
            let target = |row: usize| match row as u32 {
                row if row == first => Some(if first == last { "first and last" } else { "first" }),
                row if row == last => Some("last"),
                row if (first..last).contains(&row) => Some(""),
                _ => None,
            };
            let (count, of) = (window.input.ids.len(), question.windows.len());
            let shown = tokens(tokenizer, &window.input.ids, &marks, target);
            writeln!(out, "{shown}   (window {number} of {of}, {count} tokens)")?;
        }
        out.push('\n');
    }
    Ok(out)
}

/// Queries with their texts, which are marked, and behind a minus their hard negatives.
pub fn embed(tokenizer: &Tokenizer, pairs: &Pairs) -> anyhow::Result<String> {
    let (marks, mut out) = (Marks::for_stdout(), String::new());
    let shown = |passage: &Passage| {
        let count = passage.ids.len();
        format!("{}   ({count} tokens)", tokens(tokenizer, &passage.ids, &marks, |_| None))
    };
    for (i, query) in pairs.queries.iter().enumerate() {
        writeln!(out, "{}", shown(query))?;
        for &text in &pairs.positives[i] {
            let Marks { before, after } = &marks;
            writeln!(out, "    → {before}{}{after}", shown(&pairs.texts[text]))?;
        }
        for &text in &pairs.negatives[i] {
            writeln!(out, "    − {}", shown(&pairs.texts[text]))?;
        }
        out.push('\n');
    }
    Ok(out)
}

/// Texts, of which the tokens that are to be learnt carry loss.
pub fn lessons(tokenizer: &Tokenizer, lessons: &[Lesson], limit: usize) -> anyhow::Result<String> {
    let (marks, mut out) = (Marks::for_stdout(), String::new());
    for lesson in lessons {
        let mut shown = String::new();
        for (row, &id) in lesson.ids.iter().enumerate().take(limit) {
            let before = row > 0 && lesson.learnt[row - 1];
            match (before, lesson.learnt[row]) {
                (false, true) => shown += marks.before,
                (true, false) => shown += marks.after,
                _ => {}
            }
            shown += tokenizer.token_of(id).unwrap_or("?");
            shown.push(' ');
        }
        if lesson.learnt.get(lesson.ids.len().min(limit).wrapping_sub(1)) == Some(&true) {
            shown += marks.after;
        }
        let (count, cut) = (lesson.ids.len(), lesson.ids.len().saturating_sub(limit));
        let cut = if cut > 0 { format!(", {cut} past the limit") } else { String::new() };
        writeln!(out, "{}\n    ({count} tokens{cut}, {} to learn)\n", shown.trim_end(), lesson.targets())?;
    }
    Ok(out)
}

/// Tokens with spaces between them; one that carries loss is marked, and what it should give, if that isn't empty,
/// stands behind it.
fn tokens<'a>(
    tokenizer: &Tokenizer,
    ids: &[u32],
    marks: &Marks,
    target: impl Fn(usize) -> Option<&'a str>,
) -> String {
    let shown = ids.iter().enumerate().map(|(row, &id)| {
        let token = tokenizer.token_of(id).unwrap_or("?");
        match target(row) {
            Some("") => format!("{}{token}{}", marks.before, marks.after),
            Some(target) => format!("{}{token}/{target}{}", marks.before, marks.after),
            None => token.to_owned(),
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}
