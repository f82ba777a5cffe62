//! The journal as a table for people; colours only at a terminal.

use comfy_table::{Table, presets};

use super::document::Document;
use super::{LIMITS, NEXT, Verdict, words};
use crate::cli::output;

/// Prints the entries, the verdict, and what it does not say.
pub fn print(document: &Document, verdict: &Verdict) {
    output::say(format_args!("{} (uid {})", clean(&document.name), clean(&document.uid)));
    let mut table = Table::new();
    let preset = if output::is_terminal() { presets::UTF8_BORDERS_ONLY } else { presets::NOTHING };
    table.load_style(preset).set_header(["", "SEQ", "TIME", "ACTION", "TARGET", "RESULT", "REQUEST ID"]);
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

fn paint(text: &str, colour: u8) -> String {
    if output::is_terminal() { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// The text without what could move the cursor, turn the direction of writing or hide.
pub fn clean(text: &str) -> String {
    let is_hidden = |c: char| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    text.chars().filter(|c| !is_hidden(*c)).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
