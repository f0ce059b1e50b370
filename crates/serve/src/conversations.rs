//! Conversations, kept in one SQLite file: what was said, in the order of a tree, because a message may be edited or
//! answered anew. Whoever asks sees only what is theirs.
//!
//! Identifiers come from the page, so that what it sends twice is stored once.

use fs_err as fs;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Files of a later version aren't touched.
const VERSION: u32 = 1;
/// Another server may be writing to the same file.
const BUSY: Duration = Duration::from_secs(5);
/// Characters of a found message around the words that were looked for.
const AROUND: usize = 40;
/// Letters that the index is made of: shorter words are looked for without it.
const INDEXED: usize = 3;

const SCHEMA: &str = "
CREATE TABLE conversations (
    key INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    id TEXT NOT NULL,
    title TEXT NOT NULL,
    model TEXT,
    settings TEXT NOT NULL,
    leaf TEXT,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    UNIQUE (owner, id)
);
CREATE INDEX by_time ON conversations (owner, updated);
CREATE TABLE messages (
    key INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
    id TEXT NOT NULL,
    parent TEXT,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    detail TEXT NOT NULL,
    created INTEGER NOT NULL,
    UNIQUE (conversation, id)
);
CREATE VIRTUAL TABLE words USING fts5 (content, content = 'messages', content_rowid = 'key', tokenize = 'trigram');
CREATE TRIGGER added AFTER INSERT ON messages BEGIN
    INSERT INTO words (rowid, content) VALUES (new.key, new.content);
END;
CREATE TRIGGER removed AFTER DELETE ON messages BEGIN
    INSERT INTO words (words, rowid, content) VALUES ('delete', old.key, old.content);
END;
CREATE TRIGGER changed AFTER UPDATE OF content ON messages BEGIN
    INSERT INTO words (words, rowid, content) VALUES ('delete', old.key, old.content);
    INSERT INTO words (rowid, content) VALUES (new.key, new.content);
END;
";

/// What went wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It isn't what it should be, or can't be written.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A later Hearth wrote it.
    #[error("conversations of version {0}, expected {VERSION}: a later Hearth wrote them")]
    Version(u32),
    /// SQLite says so.
    #[error("the conversations: {0}")]
    Database(#[from] rusqlite::Error),
    /// There is no such conversation.
    #[error("there is no conversation {0:?}")]
    Unknown(String),
}

/// What a conversation is apart from its messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// What it is about.
    pub title: String,
    /// The model that answers.
    pub model: Option<String>,
    /// How it answers: what the page keeps.
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// The last message of the branch that is shown.
    pub leaf: Option<String>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// The one before it; none: the first.
    pub parent: Option<String>,
    /// Who says it.
    pub role: Role,
    /// The words.
    pub content: String,
    /// What else is known, such as the tokens' probabilities.
    #[serde(default)]
    pub detail: Map<String, Value>,
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A person.
    User,
    /// The model.
    Assistant,
}

/// A message as it is told.
#[derive(Debug, PartialEq, Serialize)]
pub struct Told {
    /// Its name.
    pub id: String,
    #[serde(flatten)]
    /// What it is.
    pub said: Said,
    /// In milliseconds since 1970.
    pub created: u64,
}

/// A conversation.
#[derive(Debug, PartialEq, Serialize)]
pub struct Conversation {
    /// Its name.
    pub id: String,
    #[serde(flatten)]
    /// What it is.
    pub head: Head,
    /// In milliseconds since 1970.
    pub created: u64,
    /// The last change.
    pub updated: u64,
    /// In the order in which they came.
    pub messages: Vec<Told>,
}

/// A line of a list.
#[derive(Debug, PartialEq, Serialize)]
pub struct Line {
    /// The conversation's name.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// The model that answers.
    pub model: Option<String>,
    /// In milliseconds since 1970.
    pub updated: u64,
    /// Where the words were found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// All conversations.
#[derive(Debug)]
pub struct Conversations(Mutex<Connection>);

impl Conversations {
    /// The conversations of a file, which is made if it isn't there.
    ///
    /// # Errors
    /// If it can't be opened, or is no file of conversations of this version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let wrong = |problem: String| StoreError::File { path: path.to_owned(), problem };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| wrong(error.to_string()))?;
        }
        let connection = Connection::open(path).map_err(|error| wrong(error.to_string()))?;
        Self::prepared(connection).map_err(|error| wrong(error.to_string()))
    }

    /// Conversations that are forgotten when this is dropped.
    ///
    /// # Errors
    /// If SQLite can't make a table.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::prepared(Connection::open_in_memory()?)
    }

    fn prepared(mut connection: Connection) -> Result<Self, StoreError> {
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let change = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let version: u32 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            0 => {
                change.execute_batch(SCHEMA)?;
                change.pragma_update(None, "user_version", VERSION)?;
            }
            VERSION => {}
            later => return Err(StoreError::Version(later)),
        }
        change.commit()?;
        Ok(Conversations(Mutex::new(connection)))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines of the latest conversations; `words`: of those where they come up.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn list(
        &self,
        owner: &str,
        words: Option<&str>,
        limit: usize,
        skip: usize,
    ) -> Result<Vec<Line>, StoreError> {
        let words = words.map(str::trim).filter(|words| !words.is_empty());
        let like = words.map(|words| {
            let escaped = words.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            format!("%{escaped}%")
        });
        let is_indexed = words.is_some_and(|words| words.chars().count() >= INDEXED);
        let quoted = words.map(|words| format!("\"{}\"", words.replace('"', "\"\"")));
        let messages = match is_indexed {
            true => "SELECT rowid FROM words WHERE words MATCH :quoted",
            false => "SELECT key FROM messages WHERE content LIKE :like ESCAPE '\\' AND :quoted NOT NULL",
        };
        let found = format!(
            "(SELECT m.content FROM messages m WHERE m.conversation = c.key AND m.key IN ({messages}) \
             ORDER BY m.key LIMIT 1)"
        );
        let query = format!(
            "SELECT id, title, model, updated, found FROM (SELECT c.*, CASE WHEN :like NOT NULL THEN {found} END AS found \
             FROM conversations c WHERE owner = :owner) \
             WHERE :like IS NULL OR found NOT NULL OR title LIKE :like ESCAPE '\\' \
             ORDER BY updated DESC, key DESC LIMIT :limit OFFSET :skip"
        );
        let connection = self.connection();
        let mut query = connection.prepare_cached(&query)?;
        let lines = query.query_map(
            named_params! { ":owner": owner, ":like": like, ":quoted": quoted, ":limit": limit as i64, ":skip": skip as i64 },
            |row| {
                let found: Option<String> = row.get("found")?;
                Ok(Line {
                    id: row.get("id")?,
                    title: row.get("title")?,
                    model: row.get("model")?,
                    updated: time(row, "updated")?,
                    found: found.zip(words).map(|(text, words)| around(&text, words)),
                })
            },
        )?;
        Ok(lines.collect::<Result<_, _>>()?)
    }

    /// A conversation.
    ///
    /// # Errors
    /// If there is none of this name, or the file can't be read.
    pub fn get(&self, owner: &str, id: &str) -> Result<Conversation, StoreError> {
        let connection = self.connection();
        let mut of_id =
            connection.prepare_cached("SELECT * FROM conversations WHERE owner = ?1 AND id = ?2")?;
        let head = of_id.query_row(params![owner, id], |row| {
            let head = Head {
                title: row.get("title")?,
                model: row.get("model")?,
                settings: json(row, "settings")?,
                leaf: row.get("leaf")?,
            };
            Ok((row.get::<_, i64>("key")?, head, time(row, "created")?, time(row, "updated")?))
        });
        let found = head.optional()?.ok_or_else(|| StoreError::Unknown(id.to_owned()))?;
        let (key, head, created, updated) = found;
        let mut of_key =
            connection.prepare_cached("SELECT * FROM messages WHERE conversation = ?1 ORDER BY key")?;
        let messages = of_key.query_map([key], |row| {
            let role = match row.get_ref("role")?.as_str()? {
                "user" => Role::User,
                _ => Role::Assistant,
            };
            let said = Said {
                parent: row.get("parent")?,
                role,
                content: row.get("content")?,
                detail: json(row, "detail")?,
            };
            Ok(Told { id: row.get("id")?, said, created: time(row, "created")? })
        })?;
        let messages = messages.collect::<Result<_, _>>()?;
        Ok(Conversation { id: id.to_owned(), head, created, updated, messages })
    }

    /// Begins a conversation, or says anew what it is.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn put(&self, owner: &str, id: &str, head: &Head) -> Result<(), StoreError> {
        let query = "INSERT INTO conversations (owner, id, title, model, settings, leaf, created, updated) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) ON CONFLICT (owner, id) DO UPDATE SET \
                     title = ?3, model = ?4, settings = ?5, leaf = ?6, updated = ?7";
        let settings = Value::Object(head.settings.clone()).to_string();
        let values = params![owner, id, head.title, head.model, settings, head.leaf, now()];
        self.connection().prepare_cached(query)?.execute(values)?;
        Ok(())
    }

    /// Removes a conversation with all that was said in it; whether there was one.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn remove(&self, owner: &str, id: &str) -> Result<bool, StoreError> {
        let query = "DELETE FROM conversations WHERE owner = ?1 AND id = ?2";
        Ok(self.connection().execute(query, params![owner, id])? > 0)
    }

    /// Adds a message to a conversation, or says anew what it is.
    ///
    /// # Errors
    /// If there is no such conversation, or the file can't be written.
    pub fn say(&self, owner: &str, id: &str, message: &str, said: &Said) -> Result<(), StoreError> {
        let role = match said.role {
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let mut connection = self.connection();
        let change = connection.transaction()?;
        let query = "UPDATE conversations SET updated = ?3 WHERE owner = ?1 AND id = ?2 RETURNING key";
        let key: Option<i64> =
            change.query_row(query, params![owner, id, now()], |row| row.get(0)).optional()?;
        let key = key.ok_or_else(|| StoreError::Unknown(id.to_owned()))?;
        let query = "INSERT INTO messages (conversation, id, parent, role, content, detail, created) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (conversation, id) DO UPDATE SET \
                     parent = ?3, role = ?4, content = ?5, detail = ?6";
        let detail = Value::Object(said.detail.clone()).to_string();
        change.execute(query, params![key, message, said.parent, role, said.content, detail, now()])?;
        change.commit()?;
        Ok(())
    }

    /// How many conversations somebody has.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn count(&self, owner: &str) -> Result<usize, StoreError> {
        let query = "SELECT count(*) FROM conversations WHERE owner = ?1";
        Ok(self.connection().query_row(query, [owner], |row| row.get::<_, i64>(0))? as usize)
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

fn time(row: &Row, column: &str) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)? as u64)
}

fn json(row: &Row, column: &str) -> rusqlite::Result<Map<String, Value>> {
    Ok(serde_json::from_str(row.get_ref(column)?.as_str()?).unwrap_or_default())
}

/// The place in a text where words come up, in one line.
fn around(text: &str, words: &str) -> String {
    let lower = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<String>();
    let flat: Vec<char> = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    let wanted = words.chars().count();
    let at = flat.windows(wanted.max(1)).position(|window| {
        let window: String = window.iter().collect();
        lower(&window) == lower(words)
    });
    let at = at.unwrap_or(0);
    let (from, to) = (at.saturating_sub(AROUND), (at + wanted + AROUND).min(flat.len()));
    let mut cut: String = flat[from..to].iter().collect();
    if from > 0 {
        cut.insert(0, '…');
    }
    if to < flat.len() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(title: &str) -> Head {
        Head { title: title.into(), model: Some("tiny".into()), settings: Map::new(), leaf: None }
    }

    fn said(parent: Option<&str>, role: Role, content: &str) -> Said {
        Said { parent: parent.map(str::to_owned), role, content: content.into(), detail: Map::new() }
    }

    fn ids(store: &Conversations, owner: &str, words: Option<&str>) -> Vec<String> {
        store.list(owner, words, 10, 0).expect("a list").into_iter().map(|line| line.id).collect()
    }

    #[test]
    fn what_was_said_is_found_again_by_whom_it_belongs_to() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("deep/conversations.sqlite");
        {
            let store = Conversations::open(&path).expect("made");
            store.put("ann", "a", &head("Cats")).expect("written");
            store
                .say("ann", "a", "1", &said(None, Role::User, "Where does the CAT sleep?\n100% sure_"))
                .expect("written");
            store.say("ann", "a", "2", &said(Some("1"), Role::Assistant, "On the mat")).expect("written");
            // Twice is once, with the later words.
            store.say("ann", "a", "2", &said(Some("1"), Role::Assistant, "On the sofa")).expect("written");
            store.put("ann", "b", &head("诗")).expect("written");
            store.say("ann", "b", "1", &said(None, Role::User, "春眠不觉晓，处处闻啼鸟")).expect("written");
            store.put("bob", "a", &head("His")).expect("written");
            store.say("bob", "a", "1", &said(None, Role::User, "the cat is mine")).expect("written");
        }
        let store = Conversations::open(&path).expect("opens again");
        let told = store.get("ann", "a").expect("there");
        let words: Vec<&str> = told.messages.iter().map(|told| told.said.content.as_str()).collect();
        assert_eq!(words, ["Where does the CAT sleep?\n100% sure_", "On the sofa"]);
        assert_eq!((told.head.title.as_str(), told.messages[1].said.parent.as_deref()), ("Cats", Some("1")));
        assert_eq!(ids(&store, "ann", None), ["b", "a"]);
        for (words, expect) in [
            ("cat sl", &["a"][..]),
            ("sofa", &["a"]),
            ("mat", &[]),
            ("cats", &["a"]),
            ("不觉晓", &["b"]),
            ("啼鸟", &["b"]),
            ("诗", &["b"]),
            ("0%", &["a"]),
            ("e_", &["a"]),
            ("%", &["a"]),
            ("\"", &[]),
            ("a\" OR \"b", &[]),
            ("mine", &[]),
        ] {
            assert_eq!(ids(&store, "ann", Some(words)), expect, "{words}");
        }
        let line = store.list("ann", Some("cat"), 1, 0).expect("a list").remove(0);
        assert_eq!(line.found.as_deref(), Some("Where does the CAT sleep? 100% sure_"));
        assert!(store.remove("ann", "a").expect("removed") && !store.remove("ann", "a").expect("gone"));
        assert_eq!(ids(&store, "ann", Some("sofa")), [""; 0]);
        assert!(matches!(store.get("ann", "a"), Err(StoreError::Unknown(_))));
        let late = store.say("ann", "a", "3", &said(None, Role::User, "too late"));
        assert!(matches!(late, Err(StoreError::Unknown(_))));
        assert_eq!((store.count("ann").expect("counted"), ids(&store, "bob", Some("cat")).len()), (1, 1));
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("notes.txt");
        fs::write(&path, "no database, but long enough to be looked at as if it were one".repeat(20))
            .expect("written");
        let before = fs::read(&path).expect("read");
        let error = Conversations::open(&path).expect_err("refused").to_string();
        assert!(error.contains("notes.txt") && error.contains("not a database"), "{error}");
        assert_eq!(fs::read(&path).expect("read"), before);
        let later = dir.path().join("later.sqlite");
        drop(Conversations::open(&later).expect("made"));
        Connection::open(&later).expect("opens").pragma_update(None, "user_version", 9).expect("written");
        let error = Conversations::open(&later).expect_err("refused").to_string();
        assert!(error.contains("later.sqlite") && error.contains("version 9"), "{error}");
    }

    #[test]
    fn a_place_is_cut_out_around_the_words() {
        let text = format!("{}Needle{}", "x".repeat(100), "y".repeat(100));
        let expect = format!("…{}Needle{}…", "x".repeat(AROUND), "y".repeat(AROUND));
        assert_eq!(around(&text, "nEEdle"), expect);
        assert_eq!(around("", "a"), "");
    }
}
