//! One object as lines for people; colours only at a terminal.

use serde_json::Value;

use super::{Answer, resource};
use crate::cli::output;
use crate::cli::reading::{amiss, words};
use crate::decision::reason::Mover;
use crate::diagnosis::{Cause, State};

/// Objects that are told of what shares the cause.
const OTHERS_MAX: usize = 10;

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const BOLD: u8 = 1;

/// Prints how it stands, what is behind it, what else is known, and what to type.
pub fn print(answer: &Answer) {
    standing(answer);
    causes(answer);
    others(answer);
    for unread in &answer.picture.unread {
        output::say(format_args!(
            "not read  {}  {}. Causes there are not seen. {}",
            unread.what(),
            unread.why,
            unread.next
        ));
    }
    last_error(&answer.detail.status["lastError"]);
    let lines = amiss(&answer.detail.status).map(|condition| {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        format!("{} is {}: {}: {}", text("type"), text("status"), text("reason"), text("message"))
    });
    section("CONDITIONS THAT ARE NOT AS THEY SHOULD BE", lines);
    let incident = answer.detail.incident.iter().flat_map(|incident| {
        let hit = incident.hit.as_ref().map(|hit| format!("hit: {}", words::hit(hit)));
        let way =
            "docs/runbook-revocation.md leads through it, and says when to give the key back".to_owned();
        hit.into_iter().chain(words::readers(incident)).chain([way])
    });
    section("INCIDENT", incident);
    let fields = resource(&answer.detail.status);
    section("IN STATUS", fields.into_iter().map(|(field, value)| format!("{field}: {value}")));
    match &answer.events {
        Err(why) => section("EVENTS", [format!("could not be read: {why}")]),
        Ok(events) => section(
            "EVENTS, THE LAST ONE LAST",
            events.iter().map(|event| {
                let at = event.at.map(|at| format!("{} ago", words::ago(at, answer.now))).unwrap_or_default();
                format!("{at}  {}  {}  {}", event.type_, event.reason, event.message)
            }),
        ),
    }
    let width = answer.commands.iter().map(|(what, _)| what.len()).max().unwrap_or_default();
    section("NEXT", answer.commands.iter().map(|(what, command)| format!("{what:width$}  {command}")));
}

fn standing(answer: &Answer) {
    let object = answer.object;
    let (word, colour) = match object.state() {
        State::Ready if object.is_troubled() => ("Ready, but", RED),
        State::Ready => ("Ready", GREEN),
        State::Needs => ("not Ready", RED),
        State::Working => ("on its way", YELLOW),
        State::Suspended => ("at rest", YELLOW),
        State::Unseen => ("not looked at yet", YELLOW),
    };
    let since = answer.detail.since.map(|since| format!(", for {}", words::ago(since, answer.now)));
    let reason = if object.reason.is_empty() { String::new() } else { format!(": {}", object.reason) };
    let name = words::object(&object.id);
    let leaving = if answer.detail.is_leaving { "; it is being deleted" } else { "" };
    output::say(output::paint(
        &format!("{name} is {word}{reason}{}{leaving}", since.unwrap_or_default()),
        colour,
    ));
    if object.state() == State::Unseen {
        let made = answer.detail.created.map(|at| format!(", made {} ago", words::ago(at, answer.now)));
        output::say(format_args!(
            "Nobody has looked at the object as it is now{}.",
            made.unwrap_or_default()
        ));
        if !object.message.is_empty() {
            output::say(format_args!("What was said of it before: {}", object.message));
        }
    } else {
        output::say(&object.message);
    }
    for alarm in &object.alarms {
        output::say(output::paint(alarm, RED));
    }
    let leader = &answer.picture.leader;
    if object.state() == State::Unseen || leader.is_gone() || leader.is_unknown() {
        output::say(output::paint(&answer.leader, YELLOW));
    }
    output::say(format_args!("Who must move: {}", mover(answer)));
}

fn mover(answer: &Answer) -> &'static str {
    match answer.mover() {
        // It is well itself, and holds others up.
        Mover::Outside if answer.group.is_some() && !answer.object.is_troubled() => {
            "you, before what it holds up can go on"
        }
        Mover::Nobody | Mover::Time if answer.is_not_known() => "not known: not everything could be read",
        mover => words::mover(mover),
    }
}

fn causes(answer: &Answer) {
    if !answer.object.is_troubled() {
        return;
    }
    let lines = answer.causes.iter().enumerate().map(|(index, behind)| {
        let name = match (&behind.cause, behind.object) {
            (Cause::Outside { reason, .. }, _) => {
                let subject = words::cause(&behind.cause);
                if subject.is_empty() { reason.clone() } else { format!("{subject}: {reason}") }
            }
            (cause, Some((object, _)))
                if object.id != answer.object.id || matches!(cause, Cause::Circle(_)) =>
            {
                format!("{}: {}: {}", words::cause(cause), object.reason, object.message)
            }
            (cause, _) => words::cause(cause),
        };
        let own = behind.object.is_some_and(|(object, _)| object.id == answer.object.id);
        let own = if own { " (this object)" } else { "" };
        format!("{}. {name}{own}", index + 1)
    });
    section("CAUSES, THE DEEPEST FIRST", lines);
}

/// What the object holds up, or what else its cause holds up.
fn others(answer: &Answer) {
    let others = answer.others();
    let is_cause =
        answer.group.as_ref().is_some_and(|group| group.cause == Cause::Object(answer.object.id.clone()));
    let head = if is_cause { "OBJECTS THAT IT HOLDS UP" } else { "OTHER OBJECTS WITH THE SAME CAUSE" };
    let (lines, more) = words::members(&answer.picture.diagnosis, &others, OTHERS_MAX);
    let more = (more > 0).then(|| format!("and {more} more: -o json names them"));
    section(head, lines.into_iter().chain(more));
}

fn last_error(error: &Value) {
    let text = |field: &str| error[field].as_str().filter(|text| !text.is_empty());
    let Some(code) = text("code") else { return };
    let request = text("requestId").map_or_else(|| "none".to_owned(), str::to_owned);
    let class = text("class").unwrap_or_default();
    section("LAST ERROR", [format!("{class}: {code}, request {request}")]);
}

fn section(head: &str, lines: impl IntoIterator<Item = String>) {
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_none() {
        return;
    }
    output::say("");
    output::say(output::paint(head, BOLD));
    lines.for_each(|line| output::say(format_args!("  {line}")));
}
