//! Label and field selectors: parsing with the errors of apimachinery, and matching.
//!
//! Which fields may be selected is the kind's affair (`Resource::selectable`).

use serde_json::Value;

use super::kinds::Resource;
use super::names;
use super::options::Query;
use super::status::{Refusal, go_quoted};

/// Both selectors of one request.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug)]
enum Test {
    Exists,
    Missing,
    In(Vec<String>),
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    test: Test,
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`; a field that the kind does not offer is a 400.
    pub fn parse(query: &Query, resource: &Resource) -> Result<Selector, Refusal> {
        let labels = match query.filled("labelSelector") {
            Some(text) => Parser::new(text).requirements().map_err(Refusal::bad_request)?,
            None => Vec::new(),
        };
        let mut fields = Vec::new();
        for (label, equal, value) in parse_fields(query.filled("fieldSelector").unwrap_or_default())? {
            fields.push((field_pointer(resource, &label)?, equal, value));
        }
        Ok(Selector { labels, fields })
    }

    /// Whether it lets everything pass.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether a stored object matches.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|requirement| requirement.holds(labels[&requirement.key].as_str()))
            && self.fields.iter().all(|(pointer, equal, value)| {
                let found = object.pointer(pointer).map(text_of).unwrap_or_default();
                (found == *value) == *equal
            })
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|text| text.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::In(values) => value.is_some_and(|text| values.iter().any(|one| one == text)),
            Test::NotIn(values) => !value.is_some_and(|text| values.iter().any(|one| one == text)),
            Test::Above(limit) => number().is_some_and(|number| number > *limit),
            Test::Below(limit) => number().is_some_and(|number| number < *limit),
        }
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn field_pointer(resource: &Resource, label: &str) -> Result<String, Refusal> {
    match label {
        "metadata.name" => return Ok("/metadata/name".to_owned()),
        "metadata.namespace" if resource.custom || resource.namespaced => {
            return Ok("/metadata/namespace".to_owned());
        }
        _ => {}
    }
    if let Some(found) = resource.selectable.iter().find(|field| field.label == label) {
        return Ok(found.pointer.clone());
    }
    // Kinds without fields of their own share one conversion function, which words this differently.
    let words = match resource.custom || !resource.selectable.is_empty() {
        true => format!("field label not supported: {label}"),
        false => {
            let known = "only \"metadata.name\", \"metadata.namespace\"";
            format!("{} is not a known field selector: {known}", go_quoted(label))
        }
    };
    Err(Refusal::bad_request(words))
}

/// Splits `a=b,c!=d` with the escapes `\\`, `\,` and `\=`.
fn parse_fields(text: &str) -> Result<Vec<(String, bool, String)>, Refusal> {
    let mut terms = Vec::new();
    for term in split_unescaped(text) {
        if term.is_empty() {
            continue;
        }
        let Some((label, equal, value)) = split_term(&term) else {
            let words = format!("invalid selector: '{text}'; can't understand '{term}'");
            return Err(Refusal::bad_request(words));
        };
        terms.push((label, equal, unescape(&value)?));
    }
    Ok(terms)
}

fn split_unescaped(text: &str) -> Vec<String> {
    let (mut parts, mut current, mut escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        if c == ',' && !escaped {
            parts.push(std::mem::take(&mut current));
            continue;
        }
        escaped = c == '\\' && !escaped;
        current.push(c);
    }
    parts.push(current);
    parts
}

fn split_term(term: &str) -> Option<(String, bool, String)> {
    for (place, _) in term.char_indices() {
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = term[place..].strip_prefix(operator) {
                return Some((term[..place].to_owned(), equal, value.to_owned()));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, Refusal> {
    let mut out = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence = other.map_or_else(|| "\\".to_owned(), |c| format!("\\{c}"));
                    return Err(Refusal::bad_request(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                let words = format!("invalid field selector: unescaped character in value: {}", c as u32);
                return Err(Refusal::bad_request(words));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(text) => text,
            Token::Symbol(symbol) => symbol,
            Token::End => "",
        }
    }

    /// `in` and `notin` are operators only where one is expected; elsewhere they are names.
    fn word(&self) -> Option<&str> {
        match self {
            Token::Word(text) => Some(text),
            _ => None,
        }
    }
}

struct Parser {
    tokens: Vec<Token>,
    place: usize,
}

const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

impl Parser {
    fn new(text: &str) -> Parser {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if c.is_whitespace() {
                rest = &rest[c.len_utf8()..];
                continue;
            }
            let symbols = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
            if let Some(symbol) = symbols.into_iter().find(|symbol| rest.starts_with(symbol)) {
                tokens.push(Token::Symbol(symbol));
                rest = &rest[symbol.len()..];
                continue;
            }
            let end = rest.find(|c: char| c.is_whitespace() || "=!(),><".contains(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        tokens.push(Token::End);
        Parser { tokens, place: 0 }
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.place).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.place += 1;
        token
    }

    fn requirements(mut self) -> Result<Vec<Requirement>, String> {
        let mut found = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Symbol("!") => {
                    found.push(
                        self.requirement().map_err(|why| format!("unable to parse requirement: {why}"))?,
                    );
                    match self.next() {
                        Token::End => return Ok(found),
                        Token::Symbol(",") => match self.peek() {
                            Token::Word(_) | Token::Symbol("!") => {}
                            other => {
                                return Err(format!(
                                    "found '{}', expected: identifier after ','",
                                    other.text()
                                ));
                            }
                        },
                        other => {
                            return Err(format!(
                                "found '{}', expected: ',' or 'end of string'",
                                other.text()
                            ));
                        }
                    }
                }
                Token::End => return Ok(found),
                other => {
                    return Err(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        other.text()
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let missing = self.peek() == &Token::Symbol("!");
        if missing {
            self.place += 1;
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(format!("found '{}', expected: identifier", other.text())),
        };
        if let Some(why) = names::qualified_name(&key).into_iter().next() {
            return Err(format!("<nil>: Invalid value: {}: {why}", go_quoted(&key)));
        }
        if missing || matches!(self.peek(), Token::End | Token::Symbol(",")) {
            let test = if missing { Test::Missing } else { Test::Exists };
            return Ok(Requirement { key, test });
        }
        let test = match self.next() {
            Token::Word(word) if word == "in" => Test::In(self.values()?),
            Token::Word(word) if word == "notin" => Test::NotIn(self.values()?),
            Token::Symbol("=" | "==") => Test::In(vec![self.exact()?]),
            Token::Symbol("!=") => Test::NotIn(vec![self.exact()?]),
            Token::Symbol(">") => Test::Above(self.bound()?),
            Token::Symbol("<") => Test::Below(self.bound()?),
            other => return Err(format!("found '{}', expected: {OPERATORS}", other.text())),
        };
        if let Test::In(values) | Test::NotIn(values) = &test {
            check_values(&key, values)?;
        }
        Ok(Requirement { key, test })
    }

    fn exact(&mut self) -> Result<String, String> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(word) => {
                let word = word.clone();
                self.place += 1;
                Ok(word)
            }
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    fn bound(&mut self) -> Result<i64, String> {
        let text = self.exact()?;
        let why = "for 'Gt', 'Lt' operators, the value must be an integer";
        text.parse().map_err(|_| format!("values[0]: Invalid value: {}: {why}", go_quoted(&text)))
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(format!("found '{}' expected: '('", other.text())),
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Symbol(")") => {
                    values.push(String::new());
                    return Ok(values);
                }
                Token::Symbol(",") => values.push(String::new()),
                Token::Word(word) => {
                    values.push(word);
                    match self.next() {
                        Token::Symbol(",") if self.peek().word().is_some() => {}
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => return Ok(values),
                        other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
                    }
                }
                other => return Err(format!("found '{}', expected: ',', ')' or identifier", other.text())),
            }
        }
    }
}

fn check_values(key: &str, values: &[String]) -> Result<(), String> {
    for (place, value) in values.iter().enumerate() {
        if let Some(why) = names::label_value(value).into_iter().next() {
            return Err(format!("values[{place}][{key}]: Invalid value: {}: {why}", go_quoted(value)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels_match(selector: &str) -> bool {
        let labels = json!({ "n": "3", "tier": "back", "odd": "" });
        let requirements = Parser::new(selector).requirements().unwrap();
        requirements.iter().all(|requirement| requirement.holds(labels[&requirement.key].as_str()))
    }

    #[test]
    fn every_operator_of_label_selectors_works() {
        let yes = [
            "n=3",
            "n==3",
            "n!=1",
            "n in (1, 3)",
            "n notin (1,2)",
            "odd",
            "!even",
            "n>2",
            "n<4",
            "odd=",
            "in!=x",
        ];
        let no = [
            "n=1",
            "n!=3",
            "n in (1)",
            "n notin (3)",
            "!odd",
            "even",
            "n>3",
            "n<3",
            "tier>1",
            "n=3,tier=front",
        ];
        yes.iter().for_each(|selector| assert!(labels_match(selector), "{selector}"));
        no.iter().for_each(|selector| assert!(!labels_match(selector), "{selector}"));
    }

    #[test]
    fn escapes_of_field_selectors_are_resolved() {
        let terms = parse_fields("a=b\\,c\\=d,e!=f").unwrap();
        assert_eq!(terms, [("a".into(), true, "b,c=d".into()), ("e".into(), false, "f".into())]);
        assert!(parse_fields("a=b=c").is_err());
        assert!(parse_fields("a=b\\x").is_err());
    }
}
