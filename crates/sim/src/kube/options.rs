//! Query parameters and DeleteOptions bodies: parsed and judged as kube-apiserver does.
//!
//! Field and label selectors are only passed on here; `selector` reads them.

use serde_json::Value;

use super::schema::Cause;
use super::status::{
    Refusal, cause, forbidden_value, go_quoted, invalid_value, required_value, too_long, unsupported_value,
};

/// Longest field manager, in bytes.
const MANAGER_BYTES_MAX: usize = 128;

/// The query parameters in their order; a name may come twice.
#[derive(Clone, Debug, Default)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value, with an empty one as good as none.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// A boolean as apimachinery converts it: everything but `false` and `0` is true.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| !value.eq_ignore_ascii_case("false") && value != "0")
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.filled(name) else { return Ok(None) };
        let wrong = || {
            Refusal::bad_request(format!("strconv.ParseInt: parsing {}: invalid syntax", go_quoted(value)))
        };
        value.parse().map(Some).map_err(|_| wrong())
    }
}

/// How a list relates to the revision that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Not said.
    Unset,
    /// That revision and no other.
    Exact,
    /// That revision or a newer one.
    NotOlderThan,
}

/// Parameters of a list or a watch.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// Objects per page; 0 for all.
    pub limit: usize,
    /// Token of the next page.
    pub next: Option<String>,
    /// The revision named, if any.
    pub version: Option<u64>,
    /// How to take it.
    pub matching: Match,
    /// Whether the watch begins with the present state; unset means the old rules.
    pub initial_events: Option<bool>,
    /// Whether the watch wants bookmarks.
    pub bookmarks: bool,
    /// Length of the watch in seconds.
    pub timeout_seconds: Option<u64>,
}

impl ListOptions {
    /// Parses and judges them.
    pub fn parse(query: &Query) -> Result<ListOptions, Refusal> {
        let watch = query.flag("watch").unwrap_or(false);
        let limit = query.number("limit")?.unwrap_or(0);
        let timeout = query.number("timeoutSeconds")?;
        let causes = list_causes(query, watch);
        if !causes.is_empty() {
            return Err(Refusal::invalid_options("ListOptions", &causes));
        }
        let next = query.filled("continue").map(str::to_owned);
        let text = query.filled("resourceVersion");
        if next.is_some() && text.is_some_and(|version| version != "0") {
            return Err(Refusal::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let version = match text.map(str::parse::<u64>) {
            None => None,
            Some(Ok(version)) => Some(version),
            Some(Err(_)) => return Err(bad_version(text.unwrap_or_default(), watch)),
        };
        let matching = match query.filled("resourceVersionMatch") {
            Some("Exact") => Match::Exact,
            Some(_) => Match::NotOlderThan,
            None => Match::Unset,
        };
        Ok(ListOptions {
            limit: usize::try_from(limit).unwrap_or(0),
            next,
            version,
            matching,
            initial_events: query.flag("sendInitialEvents"),
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            timeout_seconds: timeout
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0),
        })
    }
}

/// What the real server says about a revision that is no number, on a read.
pub fn bad_version(text: &str, unexpected: bool) -> Refusal {
    let quoted = go_quoted(text);
    let message = format!(
        "resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: invalid syntax"
    );
    match unexpected {
        true => Refusal::unexpected(message),
        false => Refusal::bad_request(format!("invalid resource version: {message}")),
    }
}

/// The rules of apimachinery's `ValidateListOptions`.
fn list_causes(query: &Query, watch: bool) -> Vec<Cause> {
    let matching = query.get("resourceVersionMatch").unwrap_or_default();
    let version = query.get("resourceVersion").unwrap_or_default();
    let field = "resourceVersionMatch";
    let mut causes = Vec::new();
    if watch {
        let initial = query.flag("sendInitialEvents");
        if initial.is_some() && matching != "NotOlderThan" {
            causes.push(forbidden_value(
                field,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        if initial.is_none() && !matching.is_empty() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(forbidden_value(field, why));
        }
        if initial.is_some() && !matching.is_empty() && matching != "NotOlderThan" {
            causes.push(unsupported_value(field, &go_quoted(matching), &["NotOlderThan"]));
        }
        if initial.is_some() && query.filled("continue").is_some() {
            causes.push(forbidden_value("continue", "continue is forbidden for watch"));
        }
        return causes;
    }
    if !matching.is_empty() {
        if version.is_empty() {
            causes.push(forbidden_value(
                field,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if query.filled("continue").is_some() {
            causes
                .push(forbidden_value(field, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if matching != "Exact" && matching != "NotOlderThan" {
            causes.push(unsupported_value(field, &go_quoted(matching), &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(forbidden_value(field, why));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        causes.push(forbidden_value("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    causes
}

/// What to do about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them with a Warning header.
    Warn,
    /// Refuse the request.
    Strict,
}

/// Parameters of a create, update or patch.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Nothing is stored.
    pub dry_run: bool,
    /// Field manager, never empty.
    pub manager: String,
    /// Unknown fields.
    pub field_validation: FieldValidation,
    /// Server-side apply takes fields away from others.
    pub force: bool,
}

impl WriteOptions {
    /// Parses and judges them; `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub fn parse(kind: &str, query: &Query, agent: &str, apply: bool) -> Result<WriteOptions, Refusal> {
        let mut causes = Vec::new();
        let dry_run =
            dry_run(query.0.iter().filter(|(key, _)| key == "dryRun").map(|(_, value)| value), &mut causes);
        let manager = query.filled("fieldManager");
        if apply && manager.is_none() {
            causes.push(required_value("fieldManager", "is required for apply patch"));
        }
        if kind == "PatchOptions" && !apply && query.get("force").is_some() {
            causes.push(forbidden_value("force", "may not be specified for non-apply patch"));
        }
        causes.extend(manager_causes(manager.unwrap_or_default()));
        let field_validation = match query.filled("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                causes.push(unsupported_value("fieldValidation", &go_quoted(other), &supported));
                FieldValidation::Warn
            }
        };
        if !causes.is_empty() {
            return Err(Refusal::invalid_options(kind, &causes));
        }
        let manager = manager.map_or_else(|| manager_of_agent(agent), str::to_owned);
        Ok(WriteOptions { dry_run, manager, field_validation, force: query.flag("force").unwrap_or(false) })
    }
}

/// The manager that a client has when it names none: its User-Agent up to the first slash, printable part.
fn manager_of_agent(agent: &str) -> String {
    let prefix = agent.split('/').next().unwrap_or_default();
    let mut name = String::new();
    for c in prefix.chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > MANAGER_BYTES_MAX {
            break;
        }
        name.push(c);
    }
    if name.is_empty() { "unknown".to_owned() } else { name }
}

fn manager_causes(manager: &str) -> Vec<Cause> {
    if manager.len() > MANAGER_BYTES_MAX {
        return vec![too_long("fieldManager", MANAGER_BYTES_MAX)];
    }
    let wrong = manager.chars().enumerate().find(|(_, c)| c.is_control());
    let words =
        |(place, c): (usize, char)| format!("invalid character U+{:04X} (at position {place})", c as u32);
    wrong.map(|found| invalid_value("fieldManager", &go_quoted(manager), &words(found))).into_iter().collect()
}

fn dry_run<'a>(values: impl Iterator<Item = &'a String>, causes: &mut Vec<Cause>) -> bool {
    let values: Vec<&String> = values.filter(|value| !value.is_empty()).collect();
    if values.iter().any(|value| *value != "All") {
        let list = values.iter().map(|value| go_quoted(value)).collect::<Vec<_>>().join(",");
        causes.push(unsupported_value("dryRun", &format!("[{list}]"), &["All"]));
    }
    !values.is_empty()
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// The owner goes first.
    Background,
    /// The dependents go first.
    Foreground,
    /// The dependents stay.
    Orphan,
}

/// Parameters and body of a delete.
#[derive(Clone, Debug)]
pub struct DeleteOptions {
    /// Nothing is removed.
    pub dry_run: bool,
    /// The uid that the object must have.
    pub uid: Option<String>,
    /// The revision that the object must have.
    pub version: Option<String>,
    /// What becomes of the dependents; unset means the default of the kind.
    pub propagation: Option<Propagation>,
}

impl DeleteOptions {
    /// Judges a decoded body (null if there was none) together with the query.
    pub fn parse(query: &Query, body: &Value) -> Result<DeleteOptions, Refusal> {
        let mut causes = Vec::new();
        let from_body = body["dryRun"].as_array().into_iter().flatten();
        let mut values: Vec<String> =
            from_body.filter_map(|value| value.as_str().map(str::to_owned)).collect();
        values.extend(query.0.iter().filter(|(key, _)| key == "dryRun").map(|(_, value)| value.clone()));
        let dry_run = dry_run(values.iter(), &mut causes);
        let policy = body["propagationPolicy"].as_str().or_else(|| query.filled("propagationPolicy"));
        let orphan = body["orphanDependents"].as_bool().or_else(|| query.flag("orphanDependents"));
        let propagation = match (policy, orphan) {
            (Some(policy), Some(_)) => {
                let why = "orphanDependents and deletionPropagation cannot be both set";
                causes.push(invalid_value("propagationPolicy", &go_quoted(policy), why));
                None
            }
            (Some("Foreground"), None) => Some(Propagation::Foreground),
            (Some("Background"), None) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Orphan"), None) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some(policy), None) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                causes.push(unsupported_value("propagationPolicy", &go_quoted(policy), &supported));
                None
            }
            (None, None) => None,
        };
        if !causes.is_empty() {
            return Err(Refusal::invalid_options("DeleteOptions", &causes));
        }
        let precondition = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
        Ok(DeleteOptions {
            dry_run,
            uid: precondition("uid"),
            version: precondition("resourceVersion"),
            propagation,
        })
    }
}

/// The cause of a write without the revision that its kind demands.
pub fn version_missing() -> Cause {
    cause(
        "FieldValueInvalid",
        "metadata.resourceVersion",
        "Invalid value: 0: must be specified for an update".into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_manager_comes_from_the_query_or_from_the_agent() {
        let manager = |pairs: &[(&str, &str)], agent: &str| {
            WriteOptions::parse("CreateOptions", &query(pairs), agent, false).map(|options| options.manager)
        };
        assert_eq!(manager(&[("fieldManager", "me")], "tool/1").unwrap(), "me");
        assert_eq!(manager(&[], "tool/1 (linux)").unwrap(), "tool");
        assert_eq!(manager(&[], "").unwrap(), "unknown");
        assert_eq!(manager(&[], &"t".repeat(200)).unwrap(), "t".repeat(MANAGER_BYTES_MAX));
        assert_eq!(manager(&[("fieldManager", &"m".repeat(129))], "").unwrap_err().code, 422);
    }

    #[test]
    fn propagation_comes_from_the_body_before_the_query() {
        let parse = |pairs: &[(&str, &str)], body: Value| DeleteOptions::parse(&query(pairs), &body);
        let foreground = [("propagationPolicy", "Foreground")];
        let found = parse(&foreground, json!({ "propagationPolicy": "Orphan" })).unwrap();
        assert_eq!(found.propagation, Some(Propagation::Orphan));
        assert_eq!(parse(&foreground, Value::Null).unwrap().propagation, Some(Propagation::Foreground));
        assert_eq!(
            parse(&[], json!({ "orphanDependents": true })).unwrap().propagation,
            Some(Propagation::Orphan)
        );
        assert_eq!(parse(&foreground, json!({ "orphanDependents": true })).unwrap_err().code, 422);
        assert_eq!(parse(&[], Value::Null).unwrap().propagation, None);
    }

    #[test]
    fn flags_are_true_unless_they_say_otherwise() {
        let flag = |value: &str| query(&[("watch", value)]).flag("watch").unwrap();
        assert!(["true", "1", "", "yes"].into_iter().all(flag));
        assert!(!["false", "FALSE", "0"].into_iter().any(flag));
    }
}
