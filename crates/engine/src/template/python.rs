//! What chat templates expect of Python: how values are written, JSON, dates.

use super::{Bounded, DEPTH, OUTPUT_BYTES};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io;

/// Walking over a value costs more than copying bytes does.
const JSON_BYTES_A_FUEL: u64 = 4;

/// Writes a value as Python's `str` does where the two differ.
pub(super) fn write_value(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => Ok(out.write_str("None")?),
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            charge_for_all(state, value)?;
            minijinja::escape_formatter(out, state, value)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// Charges for each value in a value before it is written. A list that holds another twice doubles with every
/// step, and a namespace may hold itself.
fn charge_for_all(state: &State, value: &Value) -> Result<(), Error> {
    let mut open = vec![(value.clone(), 0)];
    while let Some((value, depth)) = open.pop() {
        if depth > DEPTH {
            let problem = format!("a value holds others more than {DEPTH} deep");
            return Err(Error::new(ErrorKind::InvalidOperation, problem));
        }
        let is_map = value.kind() == ValueKind::Map;
        if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
            continue;
        }
        for item in value.try_iter()? {
            state.consume_fuel(1)?;
            let held = if is_map { value.get_item(&item)? } else { item };
            open.push((held, depth + 1));
        }
    }
    Ok(())
}

/// The filter `tojson` as Hugging Face has it: Python's `json.dumps` with `ensure_ascii=False`, so
/// that nothing is escaped for HTML.
pub(super) fn to_json(state: &State, value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    charge_for_all(state, value)?;
    let mut json = Bounded { bytes: Vec::new(), most: OUTPUT_BYTES };
    let done = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut json, OneLine)),
        Some(indent) => {
            let indent = " ".repeat(indent.min(16));
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut json, formatter))
        }
    };
    let failed = |problem: String| Error::new(ErrorKind::BadSerialization, problem);
    done.map_err(|error| failed(error.to_string()))?;
    state.consume_fuel(json.bytes.len() as u64 / JSON_BYTES_A_FUEL)?;
    String::from_utf8(json.bytes).map_err(|error| failed(error.to_string()))
}

/// JSON on one line with Python's spaces.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// `{% generation %}` and its end mark what is trained on; here they are blocks that always hold.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let Some(len) = rest[at + 2..].find("%}").map(|end| end + 4) else { break };
        let tag = &rest[at..at + len];
        let word = tag[2..len - 2].trim_matches(['-', '+', ' ', '\t', '\r', '\n']);
        out.push_str(&rest[..at]);
        match word {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = &rest[at + len..];
    }
    out + rest
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// The moment `now`, in seconds since 1970, as a C `strftime` format says; in universal time, since
/// local time would take a table of the world's.
pub(super) fn strftime(format: &str, now: u64) -> String {
    let days = now / 86_400;
    let (hour, minute, second) = (now / 3600 % 24, now / 60 % 60, now % 60);
    let (year, month, day) = date(days);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days % 7) as usize]);
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        // `%-d`, the number without zeros in front.
        let mut code = characters.next();
        let bare = code == Some('-');
        if bare {
            code = characters.next();
        }
        let two = |number: u64| if bare { number.to_string() } else { format!("{number:02}") };
        match code {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&two(year % 100)),
            Some('m') => out.push_str(&two(month)),
            Some('d') => out.push_str(&two(day)),
            Some('e') => out.push_str(&format!("{day:2}")),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('H') => out.push_str(&two(hour)),
            Some('I') => out.push_str(&two((hour + 11) % 12 + 1)),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('M') => out.push_str(&two(minute)),
            Some('S') => out.push_str(&two(second)),
            Some('F') => out.push_str(&format!("{year}-{month:02}-{day:02}")),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
            Some('%') => out.push('%'),
            other => {
                out.push('%');
                out.extend(other);
            }
        }
    }
    out
}

/// Year, month and day of a count of days since 1970, in the Gregorian calendar: years begin in
/// March there, so that the leap day ends one (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}
