//! The outcome of an audit as lines for people; colours only at a terminal.

use super::{Findings, word};
use crate::cli::output;
use crate::kinds::encryption_audit::outcome::Compliance;

/// Prints counts, findings, what was not read, and the verdict.
pub fn print(result: &Findings) {
    let status = &result.status;
    let mut counts = output::table([
        "WHAT",
        "TOTAL",
        "CUSTOMER KEY",
        "SERVICE KEY",
        "UNENCRYPTED",
        "UNKNOWN",
        "VIOLATIONS",
    ]);
    for line in &status.by_resource {
        let numbers = [
            line.total,
            line.customer_key,
            line.service_key,
            line.unencrypted,
            line.unknown,
            line.violations,
        ];
        counts.add_row([line.type_.clone()].into_iter().chain(numbers.map(|number| number.to_string())));
    }
    output::say(counts);
    if !result.findings.is_empty() {
        let mut findings = output::table(["TYPE", "ID", "REGION", "REASON", "KEY", "WHICH"]);
        for finding in &result.findings {
            findings.add_row([
                finding.type_.as_str(),
                finding.id.as_str(),
                finding.region.as_deref().unwrap_or_default(),
                finding.reason.as_str(),
                finding.key_id.as_deref().unwrap_or_default(),
                &finding.parts.join(" "),
            ]);
        }
        output::say(findings);
    }
    for region in &status.regions {
        for error in region.error.iter().chain(&region.key_error) {
            output::say(format_args!("not read  {}  {error}", region.name));
        }
    }
    output::say(verdict(result, output::is_terminal()));
}

fn verdict(result: &Findings, colours: bool) -> String {
    let summary = result.status.summary.clone().unwrap_or_default();
    let (text, colour) = match result.compliance {
        Compliance::Yes => ("compliant", 32),
        Compliance::No => ("not compliant", 31),
        Compliance::Unknown => {
            ("incomplete: nothing that was read is amiss, but not everything could be read", 33)
        }
    };
    let text = if colours { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() };
    let coverage =
        summary.coverage_percent.map(|percent| format!(", {percent}% encrypted")).unwrap_or_default();
    let revocable = summary
        .revocable_percent
        .map(|percent| format!(", {percent}% under customer keys"))
        .unwrap_or_default();
    format!(
        "{text} (Compliant {}) in {}: {} disks and snapshots{coverage}{revocable}, {} findings",
        word(result.compliance),
        places(result),
        summary.total,
        result.findings.len()
    )
}

/// Where was looked: what is compliant in one region says nothing of the others.
fn places(result: &Findings) -> String {
    /// Regions that are named; more are counted.
    const NAMED_MAX: usize = 5;
    let names: Vec<&str> = result.status.regions.iter().map(|region| region.name.as_str()).collect();
    if names.len() > NAMED_MAX { format!("{} regions", names.len()) } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_only() {
        let result = Findings {
            status: Default::default(),
            findings: Vec::new(),
            compliance: Compliance::No,
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        assert!(!verdict(&result, false).contains('\u{1b}'));
        assert!(verdict(&result, true).contains("\u{1b}[31mnot compliant\u{1b}[0m"));
    }
}
