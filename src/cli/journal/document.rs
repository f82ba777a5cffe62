//! What a journal can be read from. Every form says three things: whose journal it is, where it begins, and its entries.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::output::clean;
use crate::kinds::key_revocation::api::{JournalAnchor, JournalEntry};

/// A journal, and what its chain begins with.
#[derive(Debug)]
pub struct Document {
    /// Name of the revocation; empty where nothing says it.
    pub name: String,
    /// What the hash before the first entry is made of.
    pub uid: String,
    /// The entry before the first one, once older ones were dropped.
    pub anchor: Option<JournalAnchor>,
    /// The entries.
    pub entries: Vec<JournalEntry>,
    /// True if the operator has said that somebody changed the journal.
    pub told_broken: bool,
    /// True if status says that something was recorded, so that there must be an entry.
    pub acted: bool,
}

/// Reads JSON, JSON lines or YAML.
pub fn read(bytes: &[u8]) -> Result<Document, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    let values = match text.trim_start().starts_with(['{', '[']) {
        true => serde_json::Deserializer::from_str(text)
            .into_iter::<Value>()
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("it is not JSON: {error}"))?,
        false => serde_saphyr::from_multiple(text).map_err(|error| format!("it is not YAML: {error}"))?,
    };
    match values.as_slice() {
        [] => Err("it is empty".to_owned()),
        [value] => of(value),
        [entries @ .., last] => of_lines(entries, last),
    }
}

/// What `revoke` and this command print: the entries, and then what they belong to.
fn of_lines(entries: &[Value], last: &Value) -> Result<Document, String> {
    if last["status"]["journal"].is_array() {
        // An earlier command printed the first entries; all of them are here.
        return of(last);
    }
    let is_entry = |value: &Value| value["seq"].is_i64() && value["hash"].is_string();
    if !entries.iter().all(is_entry) || last["uid"].as_str().is_none() {
        return Err("it holds more than one document, and is not what ecskms journal prints".to_owned());
    }
    let mut whole = last.clone();
    whole["journal"] = Value::from(entries.to_vec());
    of(&whole)
}

/// Reads one document.
pub fn of(value: &Value) -> Result<Document, String> {
    if let Some(items) = value["items"].as_array() {
        return match items.as_slice() {
            [one] => of(one),
            many => Err(format!("it is a list of {} objects, and must be one", many.len())),
        };
    }
    match value["kind"].as_str() {
        // Without status, or a journal in it, nothing was done yet.
        Some("KeyRevocation") => from(value, &value["status"], Some(Vec::new())),
        Some("ConfigMap") => {
            let text = value["data"]["journal.json"].as_str();
            let text =
                text.ok_or("it is a ConfigMap without journal.json, so not the report of a revocation")?;
            let inner: Value = serde_json::from_str(text)
                .map_err(|error| format!("its journal.json is not JSON: {error}"))?;
            from(&inner, &inner, None)
        }
        Some(other) => Err(format!("it is a {}, not a KeyRevocation", clean(other))),
        None if value["status"].is_object() => from(value, &value["status"], None),
        None => from(value, value, None),
    }
}

/// `head` says whose journal it is, `holder` has it; `otherwise` stands for one that is not there.
fn from(head: &Value, holder: &Value, otherwise: Option<Vec<JournalEntry>>) -> Result<Document, String> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let first = |values: [&Value; 3]| values.into_iter().find_map(text);
    let meta = &head["metadata"];
    let uid = first([&meta["uid"], &head["uid"], &Value::Null]);
    let entries = match &holder["journal"] {
        Value::Null => otherwise.ok_or("it has no journal")?,
        Value::Array(entries) => {
            let numbered = entries.iter().enumerate();
            let parsed = numbered.map(|(place, entry)| parse(entry, &format!("its entry {}", place + 1)));
            parsed.collect::<Result<_, _>>()?
        }
        _ => return Err("its journal is not a list".to_owned()),
    };
    let anchor = &holder["journalAnchor"];
    let conditions = holder["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_told = |condition: &Value| condition["type"] == "JournalBroken" && condition["status"] == "True";
    Ok(Document {
        name: first([&meta["name"], &head["name"], &head["keyId"]]).unwrap_or_default(),
        uid: uid.ok_or("it has no uid, with which the chain of its journal begins")?,
        anchor: (!anchor.is_null()).then(|| parse(anchor, "its journalAnchor")).transpose()?,
        entries,
        told_broken: head["journalBroken"] == true || conditions.iter().any(is_told),
        acted: holder["priorState"].is_object(),
    })
}

fn parse<T: DeserializeOwned>(value: &Value, what: &str) -> Result<T, String> {
    T::deserialize(value).map_err(|error| format!("{what} cannot be read: {}", clean(&error.to_string())))
}
