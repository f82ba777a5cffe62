//! The outcome of an audit as one page: no script, nothing from elsewhere, everything that came from the account escaped.

use std::fmt::Write;

use super::{Findings, word};

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1f2328}\
table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #d1d9e0;\
vertical-align:top}td.n,th.n{text-align:right}.True{color:#1a7f37}.False{color:#cf222e}.Unknown{color:#9a6700}\
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}th,td{border-color:#30363d}}";

/// The whole page.
pub fn page(result: &Findings) -> String {
    let status = &result.status;
    let summary = status.summary.clone().unwrap_or_default();
    let word = word(result.compliance);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>Encryption audit</title><style>{STYLE}</style></head><body>\n<h1>Encryption audit</h1>\n\
         <p>Compliant: <strong class=\"{word}\">{word}</strong>. {} disks and snapshots, {} encrypted, {} under customer keys, \
         {} findings. Looked at {}.</p>\n",
        summary.total,
        percent(summary.coverage_percent),
        percent(summary.revocable_percent),
        result.findings.len(),
        escape(&result.at.strftime("%Y-%m-%d %H:%M UTC").to_string()),
    );
    let mut counts = Vec::new();
    for line in &status.by_resource {
        let numbers = [
            line.total,
            line.customer_key,
            line.service_key,
            line.unencrypted,
            line.unknown,
            line.exempt,
            line.violations,
        ];
        counts.push([vec![line.type_.clone()], numbers.map(|number| number.to_string()).to_vec()].concat());
    }
    let head =
        ["What", "Total", "Customer key", "Service key", "Unencrypted", "Unknown", "Exempt", "Violations"];
    table(&mut page, "In numbers", &head, &counts, 1);
    let findings: Vec<Vec<String>> = result
        .findings
        .iter()
        .map(|finding| {
            let place = finding.region.clone().unwrap_or_default();
            let parts = finding.parts.join(" ");
            vec![
                finding.type_.clone(),
                finding.id.clone(),
                place,
                finding.reason.clone(),
                parts,
                finding.message.clone(),
            ]
        })
        .collect();
    table(
        &mut page,
        "Findings",
        &["Type", "Id", "Region", "Reason", "Which", "What to do"],
        &findings,
        usize::MAX,
    );
    let regions: Vec<Vec<String>> = status
        .regions
        .iter()
        .map(|region| {
            let errors: Vec<&str> =
                region.error.iter().chain(&region.key_error).map(String::as_str).collect();
            vec![region.name.clone(), region.default_encryption.clone(), errors.join(" ")]
        })
        .collect();
    table(&mut page, "Regions", &["Region", "Default encryption", "Not read"], &regions, usize::MAX);
    page.push_str("</body></html>");
    page
}

fn percent(percent: Option<u32>) -> String {
    percent.map_or_else(|| "none".to_owned(), |percent| format!("{percent}%"))
}

/// A table; from column `numbers` on, its cells are numbers.
fn table(page: &mut String, title: &str, head: &[&str], rows: &[Vec<String>], numbers: usize) {
    let class = |column: usize| if column >= numbers { " class=\"n\"" } else { "" };
    let cell = |tag: &str, (column, text): (usize, &str)| {
        format!("<{tag}{}>{}</{tag}>", class(column), escape(text))
    };
    let line = |tag: &str, cells: &mut dyn Iterator<Item = &str>| -> String {
        cells.enumerate().map(|place| cell(tag, place)).collect()
    };
    let head = line("th", &mut head.iter().copied());
    let rows: String = rows
        .iter()
        .map(|row| format!("<tr>{}</tr>\n", line("td", &mut row.iter().map(String::as_str))))
        .collect();
    // Writing to a text cannot fail.
    let _ = write!(page, "<h2>{}</h2>\n<table><tr>{head}</tr>\n{rows}</table>\n", escape(title));
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::encryption_audit::api::AuditFinding;
    use crate::kinds::encryption_audit::outcome::Compliance;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn nothing_from_the_account_becomes_markup_and_nothing_comes_from_elsewhere() {
        let finding = AuditFinding {
            type_: "Disk".into(),
            id: "<script>alert('d')</script>".into(),
            region: Some("cn-a\" onload=\"x".into()),
            instance_id: None,
            namespace: None,
            reason: "NotEncrypted".into(),
            key_id: None,
            parts: vec!["<b>".into()],
            message: "a & b".into(),
            first_seen: Time(jiff::Timestamp::UNIX_EPOCH),
        };
        let result = Findings {
            status: Default::default(),
            findings: vec![finding],
            compliance: Compliance::No,
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let page = page(&result);
        assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("\" onload"), "{page}");
        assert!(
            page.contains("&lt;script&gt;alert(&#39;d&#39;)&lt;/script&gt;") && page.contains("a &amp; b")
        );
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("src="), "{page}");
        assert!(page.ends_with("</html>") && page.contains("class=\"False\">False"));
    }
}
