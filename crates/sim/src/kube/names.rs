//! The grammar of names, labels and qualified keys, with the messages of apimachinery's `validation` package.
//!
//! Pure text; what must be a name, and where, is said in `metadata`.

const QUALIFIED_WORDS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
     and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
     validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const SUBDOMAIN_WORDS: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
     characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', \
     regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_WORDS: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters \
     or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex \
     used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035_WORDS: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or \
     '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or \
     'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const VALUE_WORDS: &str = "a valid label must be an empty string or consist of alphanumeric characters, \
     '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
     'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

const SUBDOMAIN_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// Errors of a DNS-1123 subdomain; `unit` names what the limit counts, because the real server says
/// `characters` of object names and `bytes` elsewhere.
pub fn subdomain(text: &str, unit: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        errors.push(format!("must be no more than {SUBDOMAIN_MAX} {unit}"));
    }
    if !text.split('.').all(is_label) {
        errors.push(SUBDOMAIN_WORDS.to_owned());
    }
    errors
}

/// Errors of a DNS-1123 label.
pub fn label(text: &str) -> Vec<String> {
    length(text, is_label(text), LABEL_WORDS)
}

/// Errors of a DNS-1035 label.
pub fn label_1035(text: &str) -> Vec<String> {
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
    length(text, starts && is_label(text), LABEL_1035_WORDS)
}

/// Errors of a label value.
pub fn label_value(text: &str) -> Vec<String> {
    length(text, text.is_empty() || is_word(text), VALUE_WORDS)
}

/// Errors of a segment of a path, which is all that RBAC demands of names.
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    let wrong = ["/", "%"].into_iter().filter(|part| text.contains(part));
    wrong.map(|part| format!("may not contain '{part}'")).collect()
}

/// Errors of a qualified name such as a label key: `[prefix/]name`.
pub fn qualified_name(text: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let mut errors = Vec::new();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(
                    subdomain(prefix, "bytes").into_iter().map(|error| format!("prefix part {error}")),
                );
            }
            name
        }
        _ => {
            let tail = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {QUALIFIED_WORDS} {tail}")];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part must be no more than {LABEL_MAX} bytes"));
    }
    if !is_word(name) {
        errors.push(format!("name part {QUALIFIED_WORDS}"));
    }
    errors
}

fn length(text: &str, fits: bool, words: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_MAX {
        errors.push(format!("must be no more than {LABEL_MAX} bytes"));
    }
    if !fits {
        errors.push(words.to_owned());
    }
    errors
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    edges(text, inner) && text.bytes().all(|byte| inner(byte) || byte == b'-')
}

fn is_word(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric();
    edges(text, inner) && text.bytes().all(|byte| inner(byte) || b"-_.".contains(&byte))
}

fn edges(text: &str, fits: impl Fn(u8) -> bool) -> bool {
    text.bytes().next().is_some_and(&fits) && text.bytes().last().is_some_and(&fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass_and_bad_ones_do_not() {
        for good in ["a", "a-b", "a.b-c.1", &"y".repeat(253)] {
            assert!(subdomain(good, "characters").is_empty(), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a..b", ".", "a_b", "a/b", "ü", &"y".repeat(254)] {
            assert!(!subdomain(bad, "characters").is_empty(), "{bad}");
        }
        for good in ["a", "A_b.c-1", "example.com/Name", &"k".repeat(63)] {
            assert!(qualified_name(good).is_empty(), "{good}");
        }
        for bad in ["", "a b", "/a", "a/", "a/b/c", "UP/x", "-a", &"k".repeat(64)] {
            assert!(!qualified_name(bad).is_empty(), "{bad}");
        }
        assert!(label_value("").is_empty() && label_value("a.B_c").is_empty());
        assert!(!label_value("-b").is_empty() && !label_value(&"v".repeat(64)).is_empty());
        assert!(label_1035("a1").is_empty() && !label_1035("1a").is_empty());
        assert!(
            path_segment("system:a").is_empty()
                && !path_segment("a/b").is_empty()
                && !path_segment("..").is_empty()
        );
    }
}
