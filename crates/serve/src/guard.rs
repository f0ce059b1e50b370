//! Rules on what goes in and comes out: patterns that are refused, masked or rewritten. On output they work across the
//! pieces of a stream.

use crate::error::ApiError;
use fs_err as fs;
use regex::Regex;
use serde::Deserialize;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Most characters that a match on output may have, where a rule doesn't say.
const WINDOW: usize = 256;

/// What becomes of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// The request is refused, or the answer broken off.
    Refuse,
    /// It becomes `***`.
    Mask,
    /// It becomes `with`.
    Rewrite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Prompt,
    Output,
    Both,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    name: String,
    pattern: String,
    action: Action,
    #[serde(default)]
    with: Option<String>,
    on: Side,
    #[serde(default)]
    window: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<RuleText>,
    /// Write the text that matched into the log too.
    #[serde(default)]
    log_text: bool,
}

#[derive(Debug)]
struct Rule {
    name: String,
    regex: Regex,
    action: Action,
    with: String,
    on: Side,
    window: usize,
}

/// All rules; none: everything goes.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    rules: Arc<Vec<Rule>>,
    log_text: bool,
}

impl Guard {
    /// The rules of a file.
    ///
    /// # Errors
    /// If it can't be read, or a rule isn't one.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let place = path.display().to_string();
        Self::parse(&text)
            .map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, format!("{place}: {problem}")))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let rule = |rule: RuleText| {
            let problem = |problem: &str| format!("the rule {:?}: {problem}", rule.name);
            let regex = Regex::new(&rule.pattern).map_err(|error| problem(&error.to_string()))?;
            if regex.is_match("") {
                return Err(problem("its pattern matches nothing at all, so everywhere"));
            }
            let with = match (rule.action, rule.with) {
                (Action::Rewrite, Some(with)) => with,
                (Action::Rewrite, None) => return Err(problem("rewrite needs with = \"...\"")),
                (Action::Mask, None) => "***".to_owned(),
                (Action::Refuse, None) => String::new(),
                (Action::Mask | Action::Refuse, Some(_)) => return Err(problem("with goes with rewrite")),
            };
            let window = rule.window.unwrap_or(WINDOW);
            Ok(Rule { name: rule.name, regex, action: rule.action, with, on: rule.on, window })
        };
        let rules = file.rule.into_iter().map(rule).collect::<Result<_, _>>()?;
        Ok(Guard { rules: Arc::new(rules), log_text: file.log_text })
    }

    /// Applies the rules to a prompt.
    ///
    /// # Errors
    /// If one refuses it.
    pub fn prompt(&self, text: &mut String) -> Result<(), ApiError> {
        for rule in self.rules.iter().filter(|rule| rule.on != Side::Output) {
            let Some(found) = rule.regex.find(text) else { continue };
            self.note(rule, found.as_str(), "prompt")?;
            *text = rule.regex.replace_all(text, regex::NoExpand(&rule.with)).into_owned();
        }
        Ok(())
    }

    /// What an output goes through.
    pub fn output(&self) -> Filter {
        let places = (0..self.rules.len()).filter(|&i| self.rules[i].on != Side::Prompt);
        let stages = places.map(|rule| Stage { rule, held: String::new(), given: 0 }).collect();
        Filter { guard: self.clone(), stages }
    }

    /// Writes down that a rule found something; an error if it refuses it.
    fn note(&self, rule: &Rule, found: &str, side: &str) -> Result<(), ApiError> {
        let shown = if self.log_text { format!(": {found:?}") } else { String::new() };
        let did = match rule.action {
            Action::Refuse => "refused by",
            Action::Mask => "masked by",
            Action::Rewrite => "rewritten by",
        };
        eprintln!("guard: {side} {did} {:?}{shown}", rule.name);
        if rule.action == Action::Refuse {
            let message = format!("the rule {:?} refuses this {side}", rule.name);
            return Err(ApiError::bad(message).code("content_filter"));
        }
        Ok(())
    }
}

/// An output on its way through the rules, one after the other.
#[derive(Debug)]
pub struct Filter {
    guard: Guard,
    stages: Vec<Stage>,
}

/// An output on its way through a rule: its end is held back for as long as a match may begin in it, or grow.
#[derive(Debug)]
struct Stage {
    rule: usize,
    held: String,
    /// Bytes at the beginning that were given out: what stands before a match may matter to it.
    given: usize,
}

impl Filter {
    /// Takes text in, and gives out what no rule can touch any more.
    ///
    /// # Errors
    /// If a rule refuses it.
    pub fn push(&mut self, text: &str) -> Result<String, ApiError> {
        self.run(text, false)
    }

    /// The rest.
    ///
    /// # Errors
    /// If a rule refuses it.
    pub fn finish(&mut self) -> Result<String, ApiError> {
        self.run("", true)
    }

    /// A whole text.
    ///
    /// # Errors
    /// If a rule refuses it.
    pub fn whole(mut self, text: String) -> Result<String, ApiError> {
        self.run(&text, true)
    }

    fn run(&mut self, text: &str, last: bool) -> Result<String, ApiError> {
        let mut text = text.to_owned();
        for stage in &mut self.stages {
            text = stage.push(&self.guard, &text, last)?;
        }
        Ok(text)
    }
}

impl Stage {
    fn push(&mut self, guard: &Guard, text: &str, last: bool) -> Result<String, ApiError> {
        let rule = &guard.rules[self.rule];
        self.held.push_str(text);
        let mut out = String::new();
        loop {
            let found = rule.regex.find_at(&self.held, self.given);
            // A match that ends where the text does may go on in the next piece.
            let open = |found: &regex::Match| {
                !last && found.end() == self.held.len() && found.as_str().chars().count() < rule.window
            };
            match found {
                Some(found) if !open(&found) => {
                    guard.note(rule, found.as_str(), "output")?;
                    let (start, end) = (found.start(), found.end());
                    out += &self.held[self.given..start];
                    out += &rule.with;
                    self.give(end);
                }
                _ => {
                    let window = rule.window.saturating_sub(1);
                    let tail = match window {
                        0 => self.held.len(),
                        n => self.held.char_indices().rev().nth(n - 1).map_or(0, |(at, _)| at),
                    };
                    let end = if last {
                        self.held.len()
                    } else {
                        found.map_or(tail, |found| found.start().min(tail))
                    };
                    let end = end.max(self.given);
                    out += &self.held[self.given..end];
                    self.give(end);
                    return Ok(out);
                }
            }
        }
    }

    /// All before `end` was given out; one character of it stays to be looked at.
    fn give(&mut self, end: usize) {
        let kept = self.held[..end].char_indices().next_back().map_or(0, |(at, _)| at);
        self.held.drain(..kept);
        self.given = end - kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        [[rule]]
        name = "cards"
        pattern = '\d{4}( ?\d{4}){3}'
        action = "mask"
        on = "both"
        window = 19
        [[rule]]
        name = "names"
        pattern = "(?i)voldemort"
        action = "rewrite"
        with = "he who $1 must not be named"
        on = "output"
        window = 9
        [[rule]]
        name = "bombs"
        pattern = "how to build a bomb"
        action = "refuse"
        on = "both"
    "#;

    #[test]
    fn a_match_is_found_however_the_text_is_cut() {
        let guard = Guard::parse(RULES).expect("rules");
        let said = "Pay with 1234 5678 9012 3456, said Voldemort. Then 12345678901234567 and 春眠 1234 5678.";
        let whole = guard.output().whole(said.to_owned()).expect("allowed");
        assert_eq!(whole, "Pay with ***, said he who $1 must not be named. Then ***7 and 春眠 1234 5678.");
        let characters: Vec<char> = said.chars().collect();
        for size in 1..characters.len() {
            let mut filter = guard.output();
            let mut got = String::new();
            for piece in characters.chunks(size) {
                got += &filter.push(&piece.iter().collect::<String>()).expect("allowed");
            }
            got += &filter.finish().expect("allowed");
            assert_eq!(got, whole, "pieces of {size}");
        }
        let mut filter = guard.output();
        assert_eq!(filter.push("I'll tell you how to bui").expect("allowed"), "");
        assert_eq!(filter.push("ld a bomb.").expect("the other rules hold it back"), "");
        assert_eq!(filter.finish().expect_err("refused").code, Some("content_filter"));
        // What can't be told apart from a longer match waits; nothing is rewritten twice.
        let guard = "[[rule]]\nname = \"n\"\npattern = '\\b\\d+\\b'\naction = \"rewrite\"\nwith = \"1\"\non = \"output\"";
        let mut filter = Guard::parse(guard).expect("a rule").output();
        let pieces = ["a7 12", "34", "5", " b 6", "x 77"].map(|piece| filter.push(piece).expect("allowed"));
        assert_eq!(pieces.concat() + &filter.finish().expect("allowed"), "a7 1 b 6x 1");
    }

    #[test]
    fn prompts_have_rules_of_their_own() {
        let guard = Guard::parse(RULES).expect("rules");
        let mut text = "1234567890123456 Voldemort".to_owned();
        guard.prompt(&mut text).expect("allowed");
        assert_eq!(text, "*** Voldemort");
        assert!(guard.prompt(&mut "how to build a bomb?".to_owned()).is_err());
        let mut free = Guard::default().output();
        assert_eq!(free.push("as it is").expect("allowed"), "as it is");
    }

    #[test]
    fn rules_that_are_none_are_refused_by_name() {
        let rule = |rest: &str| format!("[[rule]]\nname = \"x\"\non = \"both\"\n{rest}");
        for (rest, part) in [
            ("pattern = '('\naction = \"mask\"", "\"x\""),
            ("pattern = 'a*'\naction = \"mask\"", "matches nothing"),
            ("pattern = 'a'\naction = \"rewrite\"", "with"),
            ("pattern = 'a'\naction = \"mask\"\nwith = \"b\"", "with"),
            ("pattern = 'a'\naction = \"sing\"", "sing"),
        ] {
            let error = Guard::parse(&rule(rest)).expect_err(rest);
            assert!(error.contains(part), "{error}");
        }
    }
}
