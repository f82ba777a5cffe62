//! What a journal can be read from. Every form says three things: whose journal it is, where it begins, and its entries.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::output::clean;
use crate::kinds::key_revocation::api::{JournalAnchor, JournalEntry};
use crate::kinds::key_revocation::journal;

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
    /// True if status says that something was done, so that there must be an entry.
    pub acted: bool,
    /// What was printed with it, and says otherwise than it does.
    pub contradiction: Option<String>,
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
        false => {
            // Lines of the text stay out of it: a file that was taken by mistake may hold secrets.
            let position = |error: serde_saphyr::Error| clean(&error.without_snippet().to_string());
            serde_saphyr::from_multiple(text)
                .map_err(|error| format!("it is not YAML: {}", position(error)))?
        }
    };
    match values.as_slice() {
        [] => Err("it is empty".to_owned()),
        [value] if !is_result(value) => of(value),
        [entries @ .., last] => of_lines(entries, last),
    }
}

/// True for the last line that this command prints.
fn is_result(value: &Value) -> bool {
    value["whole"].is_boolean() && value["entries"].is_u64()
}

/// What `revoke` and this command print: the entries, and then what they belong to.
fn of_lines(entries: &[Value], last: &Value) -> Result<Document, String> {
    let is_entry = |value: &Value| value["seq"].is_i64() && value["hash"].is_string();
    if !entries.iter().all(is_entry) || last["uid"].as_str().is_none() {
        return Err("it holds more than one document, and is not what ecskms prints".to_owned());
    }
    let numbered = entries.iter().enumerate();
    let parsed = numbered.map(|(place, entry)| parse(entry, &format!("its entry {}", place + 1)));
    let entries: Vec<JournalEntry> = parsed.collect::<Result<_, _>>()?;
    if last["status"]["journal"].is_array() {
        // A revocation prints each entry as it comes, and the whole journal in the end.
        let mut document = of(last)?;
        document.contradiction = entries.iter().find(|entry| !document.has(entry)).map(|entry| {
            format!("entry {} was printed before, and the journal behind it does not have it", entry.seq)
        });
        return Ok(document);
    }
    let mut document = from(last, last, Some(entries))?;
    document.contradiction = document.otherwise_than(last);
    Ok(document)
}

impl Document {
    /// True if the entry is in it, or was dropped from its front.
    fn has(&self, entry: &JournalEntry) -> bool {
        match self.entries.iter().find(|own| own.seq == entry.seq) {
            Some(own) => own == entry,
            None => journal::continues(&[], self.anchor.as_ref(), &(entry.seq, entry.hash.clone())),
        }
    }

    /// How the result line, where it says anything of them, differs from the entries.
    fn otherwise_than(&self, result: &Value) -> Option<String> {
        let told = result["entries"].as_u64()?;
        let end = self.entries.last().map(|entry| (entry.seq, entry.hash.as_str()));
        let told_end = result["last"]["seq"].as_i64().zip(result["last"]["hash"].as_str());
        let name = |end: Option<(i64, &str)>| match end {
            Some((seq, hash)) => format!("ending with entry {seq}, hash {}", clean(hash)),
            None => "without an end".to_owned(),
        };
        let differs = usize::try_from(told) != Ok(self.entries.len()) || told_end != end;
        differs.then(|| {
            let (count, here, said) = (self.entries.len(), name(end), name(told_end));
            format!("the last line tells of {told} entries, {said}; here are {count}, {here}")
        })
    }
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
        acted: has_acted(holder),
        contradiction: None,
    })
}

/// True if a status tells of anything of which the operator writes an entry together with it.
fn has_acted(status: &Value) -> bool {
    let timings = &status["timings"];
    let phase = status["phase"].as_str().unwrap_or_default();
    status["priorState"].is_object()
        || status["stops"].is_object()
        || ["firstCallAt", "revokedAt"].iter().any(|at| timings[*at].is_string())
        || ["Revoking", "Revoked", "Contained", "Restoring", "Restored"].contains(&phase)
}

fn parse<T: DeserializeOwned>(value: &Value, what: &str) -> Result<T, String> {
    T::deserialize(value).map_err(|error| format!("{what} cannot be read: {}", clean(&error.to_string())))
}
