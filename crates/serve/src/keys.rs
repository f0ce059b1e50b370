//! Keys: who may ask, for what, and how often. A file holds their hashes, never the keys.

use crate::error::ApiError;
use axum::http::StatusCode;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use subtle::ConstantTimeEq;

/// What keys begin with, so that one is recognised where it doesn't belong.
const PREFIX: &str = "hearth-";

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Use models.
    Models,
    /// See counters.
    Metrics,
}

/// A key, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Whose it is.
    pub name: String,
    /// SHA-256 of the key, in hexadecimal digits.
    pub sha256: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Most requests a minute; none: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Key>,
}

/// All keys; none at all: no key is needed.
#[derive(Debug, Default)]
pub struct Keys {
    keys: Vec<Key>,
    /// What is left to each key: requests, and when that was.
    left: Mutex<HashMap<usize, (f64, Instant)>>,
}

fn hash(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Key {
    /// A new key, and the words that it consists of, which are kept nowhere.
    pub fn new(name: &str, scopes: Vec<Scope>, requests_per_minute: Option<u32>) -> (Self, String) {
        let secret: [u8; 32] = rand::random();
        let words = secret.iter().fold(PREFIX.to_owned(), |text, byte| text + &format!("{byte:02x}"));
        (Key { name: name.to_owned(), sha256: hash(&words), scopes, requests_per_minute }, words)
    }

    /// A key that somebody chose.
    pub fn of(name: &str, words: &str) -> Self {
        let scopes = vec![Scope::Models, Scope::Metrics];
        Key { name: name.to_owned(), sha256: hash(words), scopes, requests_per_minute: None }
    }
}

impl Keys {
    /// These keys.
    pub fn new(keys: Vec<Key>) -> Self {
        Keys { keys, left: Mutex::default() }
    }

    /// The keys of a file.
    ///
    /// # Errors
    /// If it can't be read, or isn't a list of keys.
    pub fn read(path: &Path) -> io::Result<Vec<Key>> {
        let text = fs::read_to_string(path)?;
        let wrong = |problem: String| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {problem}", path.display()))
        };
        let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(key) = file.key.iter().find(|key| !is_hash(&key.sha256)) {
            return Err(wrong(format!("sha256 of {:?} isn't 64 hexadecimal digits", key.name)));
        }
        Ok(file.key)
    }

    /// The text of a file with these keys.
    ///
    /// # Errors
    /// If it can't be written as TOML.
    pub fn text(keys: Vec<Key>) -> io::Result<String> {
        toml::to_string(&File { key: keys }).map_err(io::Error::other)
    }

    /// Whether a key is needed.
    pub fn are_needed(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The number of a key that may do what is asked, counting this request.
    ///
    /// # Errors
    /// If it is none of the keys, may not do that, or has asked too often.
    pub fn admit(&self, given: Option<&str>, scope: Scope) -> Result<u64, ApiError> {
        if self.keys.is_empty() {
            return Ok(0);
        }
        let wrong = || {
            let message = "a valid key is needed: Authorization: Bearer KEY";
            ApiError::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key")
        };
        let given = hash(given.ok_or_else(wrong)?);
        // All are compared, each in constant time.
        let mut found = None;
        for (i, key) in self.keys.iter().enumerate() {
            if bool::from(key.sha256.to_ascii_lowercase().as_bytes().ct_eq(given.as_bytes())) {
                found = Some(i);
            }
        }
        let index = found.ok_or_else(wrong)?;
        let key = &self.keys[index];
        if !key.scopes.contains(&scope) {
            let message = format!("the key {:?} isn't for this", key.name);
            return Err(ApiError::new(StatusCode::FORBIDDEN, message).code("missing_scope"));
        }
        self.count(index, key)?;
        Ok(index as u64 + 1)
    }

    /// Whose the key of this number is; without keys, nobody in particular.
    pub fn name(&self, number: u64) -> &str {
        let index = (number as usize).checked_sub(1);
        index.and_then(|index| self.keys.get(index)).map_or("", |key| &key.name)
    }

    /// A bucket that fills by the minute.
    fn count(&self, index: usize, key: &Key) -> Result<(), ApiError> {
        let Some(most) = key.requests_per_minute else { return Ok(()) };
        let (most, now) = (f64::from(most), Instant::now());
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, since) = left.entry(index).or_insert((most, now));
        *count = (*count + since.elapsed().as_secs_f64() / 60.0 * most).min(most);
        *since = now;
        if *count < 1.0 {
            let wait = ((1.0 - *count) / most * 60.0).ceil() as u64;
            let message = format!("the key {:?} is for {most} requests a minute", key.name);
            let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).code("rate_limit_exceeded");
            return Err(ApiError { retry_after: Some(wait.max(1)), ..error });
        }
        *count -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_by_their_hashes() {
        let (first, words) = Key::new("first", vec![Scope::Models], None);
        let (second, others) = Key::new("second", vec![Scope::Metrics], Some(2));
        assert!(words != others && !format!("{first:?}").contains(&words));
        let text = Keys::text(vec![first.clone(), second.clone()]).expect("TOML");
        assert!(!text.contains(&words[PREFIX.len()..]));
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), &text).expect("written");
        assert_eq!(Keys::read(file.path()).expect("read"), [first.clone(), second.clone()]);

        let keys = Keys::new(vec![first, second]);
        let status = |given: Option<&str>, scope| keys.admit(given, scope).map_err(|e| e.status.as_u16());
        assert_eq!(status(Some(&words), Scope::Models), Ok(1));
        assert_eq!(status(Some(&words), Scope::Metrics), Err(403));
        assert_eq!(status(Some(&words[1..]), Scope::Models), Err(401));
        assert_eq!(status(Some(""), Scope::Models), Err(401));
        assert_eq!(status(None, Scope::Models), Err(401));
        // Two requests a minute.
        assert_eq!(status(Some(&others), Scope::Metrics), Ok(2));
        assert_eq!(status(Some(&others), Scope::Metrics), Ok(2));
        let error = keys.admit(Some(&others), Scope::Metrics).expect_err("too many");
        assert_eq!((error.status.as_u16(), error.retry_after), (429, Some(30)));
        assert_eq!(Keys::default().admit(None, Scope::Models), Ok(0), "without keys none is needed");
    }

    #[test]
    fn a_file_that_is_no_list_of_keys_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for text in ["key = 3", "[[key]]\nname = \"a\"\nsha256 = \"12\"\nscopes = []", "[[keys]]\n"] {
            fs::write(file.path(), text).expect("written");
            let error = Keys::read(file.path()).expect_err(text).to_string();
            assert!(error.starts_with(&file.path().display().to_string()), "{error}");
        }
    }
}
