//! The findings as lines for people; borders and colours only at a terminal.

use super::{Findings, revocations};
use crate::cli::output;
use crate::cli::reading::words;
use crate::diagnosis::{Cause, Group, Urgency};

/// Names of objects that are told of one cause.
const MEMBERS_MAX: usize = 10;
/// Causes of one sort that are told.
const CAUSES_MAX: usize = 20;

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const BOLD: u8 = 1;

/// Prints counts, alarms and live revocations, the causes, and what could not be read.
pub fn print(found: &Findings, all: bool) {
    counts(found);
    output::say(verdict(found));
    if found.tells_of_leader() {
        output::say(output::paint(&found.leader(), YELLOW));
    }
    // What could not be read comes before everything that may follow from it.
    let unread = &found.picture.unread;
    let shown = if all { unread.len() } else { CAUSES_MAX };
    for unread in unread.iter().take(shown) {
        output::say(format_args!("not read  {}  {}. {}", unread.what(), unread.why, unread.next));
    }
    if unread.len() > shown {
        output::say(format_args!(
            "… and {} more that were not read; --all shows them.",
            unread.len() - shown
        ));
    }
    let sections = [
        (Urgency::Alarm, "ALARMS", RED),
        (Urgency::Needs, "CAUSES THAT NEED SOMEBODY, THE MOST HARMFUL FIRST", RED),
        (Urgency::Unseen, "NOT LOOKED AT YET", YELLOW),
        (Urgency::Working, "ON THEIR WAY BY THEMSELVES", BOLD),
        (Urgency::Suspended, "SUSPENDED", BOLD),
    ];
    for (urgency, head, colour) in sections {
        let groups: Vec<&Group> = found.groups.iter().filter(|group| group.urgency == urgency).collect();
        if !groups.is_empty() {
            output::say("");
            output::say(output::paint(head, colour));
        }
        let shown = if all { groups.len() } else { CAUSES_MAX };
        for (index, group) in groups.iter().take(shown).enumerate() {
            cause(found, index + 1, group, all);
        }
        if groups.len() > shown {
            output::say(format_args!("… and {} more causes; --all shows them.", groups.len() - shown));
        }
        if urgency == Urgency::Alarm {
            revocations::print(found);
        }
    }
}

fn counts(found: &Findings) {
    let mut table =
        output::table(["KIND", "TOTAL", "READY", "WORKING", "NEEDS YOU", "SUSPENDED", "NOT LOOKED AT"]);
    let counts = found.picture.diagnosis.counts();
    for kind in &found.kinds {
        let name = kind.resource.kind.as_str();
        let numbers = match counts.get(name) {
            Some(counts) => {
                [counts.total, counts.ready, counts.working, counts.needs, counts.suspended, counts.unseen]
                    .map(|number| number.to_string())
            }
            None => ["?"; 6].map(str::to_owned),
        };
        table.add_row([name.to_owned()].into_iter().chain(numbers));
    }
    output::say(table);
}

fn verdict(found: &Findings) -> String {
    let total = found.objects().len();
    let place = found.namespace.as_ref().map_or_else(
        || "in all namespaces".to_owned(),
        |namespace| format!("in namespace {} and the cluster; -A looks everywhere", output::clean(namespace)),
    );
    let troubled: usize = found.groups.iter().map(|group| group.members.len()).sum();
    let causes = found.groups.iter().filter(|group| group.urgency <= Urgency::Needs).count();
    let incomplete = if found.picture.unread.is_empty() { "" } else { " Not everything could be read." };
    let is_gone = found.picture.leader.is_gone();
    let (text, colour) = match (total, troubled, causes) {
        (0, _, _) if found.picture.diagnosis.counts().is_empty() => {
            ("Nothing could be read".to_owned(), YELLOW)
        }
        (0, _, _) if !incomplete.is_empty() => ("What could be read has no objects".to_owned(), YELLOW),
        (0, _, _) => ("There are no objects".to_owned(), YELLOW),
        (_, 0, _) if is_gone => {
            (format!("As far as an operator has looked, all of {total} objects are as promised"), YELLOW)
        }
        (1, 0, _) => ("The one object is as promised".to_owned(), GREEN),
        (_, 0, _) => (format!("All {total} objects are as promised"), GREEN),
        (_, _, 0) => (format!("{troubled} of {total} objects are not Ready, and none needs anybody"), YELLOW),
        (_, _, 1) => {
            (format!("{troubled} of {total} objects are not as promised; one cause needs somebody"), RED)
        }
        _ => {
            (format!("{troubled} of {total} objects are not as promised; {causes} causes need somebody"), RED)
        }
    };
    let (gone, colour) = match colour {
        _ if is_gone => ("; no operator leads", RED),
        GREEN if !found.is_complete() => ("", YELLOW),
        colour => ("", colour),
    };
    output::paint(&format!("{text}{gone} ({place}).{incomplete}"), colour)
}

fn cause(found: &Findings, number: usize, group: &Group, all: bool) {
    let diagnosis = &found.picture.diagnosis;
    let speaker = &diagnosis.objects()[group.speaker];
    let since = found.picture.detail(group.speaker).and_then(|detail| detail.since);
    let head = words::head(&group.cause, speaker, since, found.now);
    output::say(format_args!("{number}. {}", output::paint(&head, BOLD)));
    for alarm in &speaker.alarms {
        output::say(format_args!("   {}", output::paint(alarm, RED)));
    }
    for concern in speaker.told_concerns() {
        output::say(format_args!("   {}", output::paint(concern, YELLOW)));
    }
    // Of objects that have no more in common than their reason, the message of one says nothing of the others.
    let is_of_all = match group.cause {
        Cause::Object(_) => true,
        Cause::Forsaken => false,
        _ => group.urgency <= Urgency::Needs,
    };
    if is_of_all && !speaker.message.is_empty() {
        output::say(format_args!("   {}", speaker.message));
    }
    if group.urgency <= Urgency::Needs {
        output::say(format_args!("   Who must move: {}", words::mover(diagnosis.mover(group))));
    }
    let own = match &group.cause {
        Cause::Object(id) => diagnosis.find(id),
        _ => None,
    };
    let others: Vec<usize> = group.members.iter().copied().filter(|place| Some(*place) != own).collect();
    if !others.is_empty() {
        let (lines, more) = words::members(diagnosis, &others, if all { others.len() } else { MEMBERS_MAX });
        let more = if more == 0 { String::new() } else { format!("; and {more} more (--all)") };
        output::say(format_args!("   {}: {}{more}", objects(others.len()), lines.join("; ")));
    }
    output::say(format_args!("   Look closer: {}{}", words::why(&speaker.id), found.place.flags()));
}

fn objects(count: usize) -> String {
    if count == 1 { "1 object".to_owned() } else { format!("{count} objects") }
}
