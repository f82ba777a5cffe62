//! The journal as a table for people; colours only at a terminal.

use super::document::Document;
use super::{LIMITS, NEXT, Verdict, words};
use crate::cli::output::{self, clean, paint};

/// Prints the entries, the verdict, and what it does not say.
pub fn print(document: &Document, verdict: &Verdict) {
    output::say(format_args!("{} (uid {})", clean(&document.name), clean(&document.uid)));
    let mut table = output::table(["", "SEQ", "TIME", "ACTION", "TARGET", "RESULT", "REQUEST ID"]);
    for entry in &document.entries {
        let mark = if verdict.at == Some(entry.seq) { "BROKEN" } else { "" };
        table.add_row([
            mark.to_owned(),
            entry.seq.to_string(),
            entry.time.0.to_string(),
            clean(&entry.action),
            clean(&entry.target),
            clean(&entry.result),
            clean(entry.request_id.as_deref().unwrap_or_default()),
        ]);
    }
    if !document.entries.is_empty() {
        output::say(table);
    }
    let words = words(document, verdict);
    match &verdict.how {
        None => output::say(paint(&format!("{words}."), 32)),
        Some(_) => {
            output::say(paint(&format!("BROKEN: {words}."), 31));
            output::say(NEXT);
        }
    }
    if let Some(last) = document.entries.last() {
        output::say(format_args!("Its end: entry {}, hash {}.", last.seq, clean(&last.hash)));
    }
    output::say(LIMITS);
}
