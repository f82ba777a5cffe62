//! The lines as a table, as plain lines, and as JSON.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

use super::line::{Line, Verdict};

/// For a terminal: colours, and text that is broken to its width.
pub fn table(lines: &[Line]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .enforce_styling()
        .set_header(["RESULT", "CHECK", "SEEN, AND THE FIX"]);
    for line in lines {
        let colour = match line.result {
            Verdict::Ok => Color::Green,
            Verdict::Failed => Color::Red,
            Verdict::Unknown => Color::Yellow,
            Verdict::Skipped => Color::DarkGrey,
        };
        let fix = line.fix.iter().map(|fix| format!("\n→ {fix}"));
        let told: String = std::iter::once(seen(line)).chain(fix).collect();
        let result = Cell::new(line.result.word()).fg(colour).add_attribute(Attribute::Bold);
        table.add_row([result, Cell::new(&line.check), Cell::new(told)]);
    }
    format!("{table}\n{}", summary(lines))
}

/// For pipes: one line for each check, and one that counts them.
pub fn plain(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let fix = line.fix.iter().map(|fix| format!("; fix: {fix}")).collect::<String>();
        text += &format!("{:<8}{}: {}{fix}\n", line.result.word(), line.check, seen(line));
    }
    text + &summary(lines)
}

/// For programs.
pub fn json(lines: &[Line]) -> String {
    serde_json::to_string_pretty(lines).unwrap_or_default()
}

fn seen(line: &Line) -> String {
    let request = line.request_id.iter().map(|id| format!(" [request {id}]")).collect::<String>();
    line.seen.clone() + &request
}

fn summary(lines: &[Line]) -> String {
    let count = |verdict| lines.iter().filter(|line| line.result == verdict).count();
    let [ok, failed, unknown, skipped] =
        [Verdict::Ok, Verdict::Failed, Verdict::Unknown, Verdict::Skipped].map(count);
    format!("{ok} ok, {failed} failed, {unknown} unknown, {skipped} skipped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_in_the_table_and_a_pipe_gets_one_line_for_each_check() {
        let failed = Line { request_id: Some("A-1".into()), ..Line::failed("b", "no", "Do it.") };
        let lines = [Line::ok("a", "yes"), failed];
        assert_eq!(
            plain(&lines),
            "ok      a: yes\nfailed  b: no [request A-1]; fix: Do it.\n1 ok, 1 failed, 0 unknown, 0 skipped"
        );
        assert!(table(&lines).contains("\u{1b}[") && table(&lines).contains("→ Do it."));
        let value: serde_json::Value = serde_json::from_str(&json(&lines)).expect("JSON");
        let second = serde_json::json!({"check": "b", "result": "failed", "seen": "no", "fix": "Do it.", "requestId": "A-1"});
        assert_eq!(value[1], second);
        assert!(value[0].get("fix").is_none());
    }
}
