//! `ecskms why`: one object in full, what is behind it, and what to type next. Reads and changes nothing.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::output;
use super::reading::{self, Detail, Form, Picture, Served, Unread, Where, amiss, words};
use crate::decision::reason::Mover;
use crate::diagnosis::{Cause, Group, Id, Object, State, Urgency};
use crate::resource::{GROUP, RECONCILE_ANNOTATION};

mod events;
mod find;
mod print;

use events::Told;

/// Arguments of `ecskms why`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the object is as promised, on its way by itself, or suspended; 3 somebody must move: for \
                        it, for what it holds up, or for an operator that leads no more; 1 there is no such object, or it, \
                        or what it waits for, could not be read; 2 wrong arguments."
)]
pub struct Args {
    /// The object, as KIND/NAME or KIND NAME; a kind in every form that kubectl takes.
    #[arg(required = true, num_args = 1..=2, value_names = ["KIND/NAME", "NAME"])]
    object: Vec<String>,
    #[command(flatten)]
    place: Where,
    /// table: lines for people; or json.
    #[arg(long, short, env = "ECSKMS_OUTPUT", default_value = "table", value_name = "FORM")]
    output: Form,
}

/// The exit code if what the object waits for could not be read.
const NOT_KNOWN: u8 = 1;
/// The exit code if somebody must move before the object can go on.
const NEEDS: u8 = 3;

/// What is printed.
struct Answer<'a> {
    picture: &'a Picture,
    object: &'a Object,
    detail: &'a Detail,
    /// What the object shares its cause with, or holds up although it is as promised itself.
    group: Option<Group>,
    /// What is behind it, the deepest first; the object itself comes last.
    causes: Vec<Behind<'a>>,
    events: Result<Vec<Told>, String>,
    /// What is to be said of the operator.
    leader: String,
    /// What to type, and for what.
    commands: Vec<(&'static str, String)>,
    now: jiff::Timestamp,
}

/// One cause of the chain.
struct Behind<'a> {
    cause: Cause,
    /// The object itself, if it is one that is there.
    object: Option<(&'a Object, Option<&'a Detail>)>,
}

/// Looks at the object and says what is behind it.
pub async fn run(args: Args) -> ExitCode {
    match go(&args).await {
        Ok(code) | Err(code) => code,
    }
}

async fn go(args: &Args) -> Result<ExitCode, ExitCode> {
    let kinds = reading::served();
    let (kind, name) = target(&kinds, &args.object).map_err(|problem| {
        output::note(format_args!("ecskms: {}", output::clean(&problem)));
        ExitCode::from(reading::WRONG)
    })?;
    let (client, namespace) = args.place.connect().await?;
    let namespace = kind.is_namespaced.then_some(namespace);
    let picture = reading::read(&client, &kinds, namespace.as_deref(), &args.place).await?;
    let id = Id { kind: kind.resource.kind.clone(), namespace: namespace.clone(), name };
    let Some(place) = picture.diagnosis.find(&id) else {
        return Err(find::missing(&client, kind, &picture, &id, &args.place.kubectl()).await);
    };
    let Some(detail) = picture.detail(place) else { return Err(ExitCode::FAILURE) };
    let events = events::read(&client, namespace.as_deref(), &detail.uid).await;
    let is_of = |group: &Group| group.members.contains(&place) || group.cause == Cause::Object(id.clone());
    let group = picture.diagnosis.groups().into_iter().find(is_of);
    let causes = behind(&picture, place);
    let now = jiff::Timestamp::now();
    let answer = Answer {
        object: &picture.diagnosis.objects()[place],
        detail,
        commands: commands(kind, &id, &causes, &group, &args.place, &picture),
        leader: picture.leader.sentence(&args.place, now),
        picture: &picture,
        group,
        causes,
        events,
        now,
    };
    match args.output {
        Form::Json => output::say(json(&answer)),
        Form::Table => print::print(&answer),
    }
    Ok(ExitCode::from(answer.code()))
}

/// The kind and the name that are meant, or what is wrong with them.
fn target<'a>(kinds: &'a [Served], words: &[String]) -> Result<(&'a Served, String), String> {
    let (kind, name) = match words {
        [both] => match both.split_once('/') {
            Some((kind, name)) => (kind, name),
            None => return Err(format!("the name is missing: ecskms why {both}/NAME")),
        },
        [kind, name] => (kind.as_str(), name.as_str()),
        _ => return Err("give one object, as KIND/NAME or KIND NAME".to_owned()),
    };
    if name.is_empty() || name.contains('/') || kind.contains('/') {
        return Err("give one object, as KIND/NAME or KIND NAME; its namespace with -n".to_owned());
    }
    let wanted = kind.to_lowercase();
    let (stem, group) = wanted.split_once('.').unwrap_or((&wanted, GROUP));
    let is_ours = group == GROUP || group.strip_suffix(GROUP).is_some_and(|version| version.ends_with('.'));
    let found = kinds.iter().filter(|_| is_ours).find(|kind| kind.names.iter().any(|name| name == stem));
    let known = || kinds.iter().map(|kind| format!("{} ({})", kind.resource.kind, kind.names.join(", ")));
    found.map(|kind| (kind, name.to_owned())).ok_or_else(|| {
        format!("{kind} is no kind of {GROUP}. These are: {}", known().collect::<Vec<_>>().join("; "))
    })
}

/// The way to the cause, the cause first.
fn behind(picture: &Picture, place: usize) -> Vec<Behind<'_>> {
    /// Objects on the way that are told.
    const STEPS_MAX: usize = 16;
    let diagnosis = &picture.diagnosis;
    let chain = diagnosis.chain(place);
    let at = |place: usize| (&diagnosis.objects()[place], picture.detail(place));
    let own = |place: usize| Cause::Object(diagnosis.objects()[place].id.clone());
    let last = chain.steps[chain.steps.len() - 1];
    let mut causes = Vec::new();
    // An object that is its own cause is told once.
    if chain.cause != own(last) {
        let object = match &chain.cause {
            Cause::Object(id) | Cause::Circle(id) => diagnosis.find(id).map(at),
            Cause::Absent(_) | Cause::Unread(_) | Cause::Outside { .. } | Cause::Unseen | Cause::Forsaken => {
                None
            }
        };
        causes.push(Behind { cause: chain.cause, object });
    }
    let steps = chain.steps.iter().rev().take(STEPS_MAX);
    causes.extend(steps.map(|step| Behind { cause: own(*step), object: Some(at(*step)) }));
    causes
}

/// What to type next, the most useful first.
fn commands(
    kind: &Served,
    id: &Id,
    causes: &[Behind],
    group: &Option<Group>,
    cluster: &Where,
    picture: &Picture,
) -> Vec<(&'static str, String)> {
    let (flags, kubectl) = (cluster.flags(), cluster.kubectl());
    let place = id.namespace.as_ref().map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    let object = format!("{} {}{place}{kubectl}", kind.resource.plural, id.name);
    let mut commands = Vec::new();
    let deepest = causes.first().and_then(|behind| behind.object).map(|(object, _)| &object.id);
    if let Some(cause) = deepest.filter(|cause| *cause != id) {
        commands.push(("what is behind it", format!("{}{flags}", words::why(cause))));
    }
    let shared = group.as_ref().is_some_and(|group| group.members.len() > 1);
    if shared {
        let everywhere = if kind.is_namespaced { &place } else { " -A" };
        commands.push(("everything with the same cause", format!("ecskms status{everywhere}{flags}")));
    }
    let mover = group.as_ref().map(|group| picture.diagnosis.mover(group));
    if mover == Some(Mover::Object) && deepest == Some(id) {
        commands.push(("mend the object", format!("kubectl edit {object}")));
    }
    let incident = picture.details.get(id).and_then(|detail| detail.incident.as_ref());
    if incident.is_some_and(|incident| incident.is_held) {
        let end = r#"'{"spec":{"desiredState":"Restored"}}'"#;
        commands.push((
            "give the key back, once the cause is gone",
            format!("kubectl patch {object} --type=merge -p {end}"),
        ));
    }
    let annotation = format!("{RECONCILE_ANNOTATION}=\"$(date +%s)\"");
    commands.push(("ask for another look", format!("kubectl annotate {object} --overwrite {annotation}")));
    commands.push(("the object as it is", format!("kubectl get {object} -o yaml")));
    commands
}

/// What status says of the resource in the cloud, and of how far it is: every plain value that is the kind's own.
fn resource(status: &Value) -> Vec<(&String, String)> {
    let fields = status.as_object().into_iter().flatten();
    let own = fields
        .filter(|(field, _)| !matches!(field.as_str(), "observedGeneration" | "lastHandledReconcileAt"));
    own.filter_map(|(field, value)| match value {
        Value::String(text) => Some((field, text.clone())),
        Value::Number(number) => Some((field, number.to_string())),
        Value::Bool(truth) => Some((field, truth.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    })
    .collect()
}

impl Answer<'_> {
    fn mover(&self) -> Mover {
        match &self.group {
            Some(group) => self.picture.diagnosis.mover(group),
            None if self.picture.leader.is_gone() => Mover::Outside,
            None => Mover::Nobody,
        }
    }

    /// True if what the object waits for could not be read.
    fn is_not_known(&self) -> bool {
        let id = &self.object.id;
        let is_unfit = || self.picture.unread.iter().any(|unread| unread.object.as_ref() == Some(id));
        let waits = matches!(self.causes.first(), Some(Behind { cause: Cause::Unread(_), .. }));
        let is_unseen = self.object.state() == State::Unseen && self.picture.leader.is_unknown();
        waits || is_unseen || is_unfit()
    }

    /// The other objects that have the same cause; the cause itself is told before.
    fn others(&self) -> Vec<usize> {
        let objects = self.picture.diagnosis.objects();
        let is_told = |id: &Id| {
            *id == self.object.id
                || self.group.as_ref().is_some_and(|group| group.cause == Cause::Object(id.clone()))
        };
        let members = self.group.iter().flat_map(|group| &group.members).copied();
        members.filter(|place| !is_told(&objects[*place].id)).collect()
    }

    fn code(&self) -> u8 {
        let needs = self.group.as_ref().is_some_and(|group| group.urgency <= Urgency::Needs);
        match needs || self.picture.leader.is_gone() {
            true => NEEDS,
            false if self.is_not_known() => NOT_KNOWN,
            false => 0,
        }
    }
}

fn json(answer: &Answer) -> Value {
    let object = answer.object;
    let causes = answer.causes.iter().map(|behind| {
        let said =
            behind.object.map(|(object, _)| json!({ "reason": object.reason, "message": object.message }));
        let mut value = words::cause_json(&behind.cause);
        value["says"] = json!(said);
        value
    });
    let same = answer.others().into_iter().map(|place| {
        let id = &answer.picture.diagnosis.objects()[place].id;
        json!({ "kind": id.kind, "namespace": id.namespace, "name": id.name })
    });
    let commands = answer.commands.iter().map(|(what, command)| json!({ "what": what, "command": command }));
    json!({
        "exitCode": answer.code(),
        "time": answer.now.to_string(),
        "kind": object.id.kind, "namespace": object.id.namespace, "name": object.id.name,
        "alarms": object.alarms, "concerns": object.told_concerns().collect::<Vec<_>>(), "ready": object.ready.as_str(), "reason": object.reason, "message": object.message,
        "since": answer.detail.since.map(|since| since.to_string()),
        "lookedAt": object.looked_at, "leaving": answer.detail.is_leaving,
        "mover": words::mover_word(answer.mover()),
        "causes": causes.collect::<Vec<_>>(),
        "sameCause": same.collect::<Vec<_>>(),
        "lastError": answer.detail.status["lastError"],
        "conditions": amiss(&answer.detail.status).collect::<Vec<_>>(),
        "status": answer.detail.status,
        "events": answer.events.as_ref().ok().map(|events| events.iter().map(Told::json).collect::<Vec<_>>()),
        "eventsNotRead": answer.events.as_ref().err(),
        "notRead": answer.picture.unread.iter().map(Unread::json).collect::<Vec<_>>(),
        "operator": { "state": answer.picture.leader.word(), "message": answer.leader },
        "next": commands.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_understood_in_every_form_that_kubectl_takes() {
        let kinds = reading::served();
        let named = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            target(&kinds, &words).map(|(kind, name)| format!("{}/{name}", kind.resource.kind))
        };
        for word in [
            "EncryptedDisk",
            "encrypteddisk",
            "encryptedDisks",
            "EDISK",
            "encrypteddisks.ecskms.dev",
            "encrypteddisk.v1alpha1.ecskms.dev",
        ] {
            assert_eq!(named(&[&format!("{word}/a")]), Ok("EncryptedDisk/a".to_owned()));
            assert_eq!(named(&[word, "a"]), Ok("EncryptedDisk/a".to_owned()));
        }
        let problem = named(&["pods/a"]).expect_err("no kind of ours");
        assert!(
            problem.contains("pods")
                && problem.contains("EncryptedDisk (encrypteddisk, encrypteddisks, edisk)"),
            "{problem}"
        );
        assert!(named(&["disks.evilecskms.dev", "a"]).is_err());
        for words in [&["edisk"][..], &["edisk/"], &["edisk/a/b"], &["edisk/a", "b"], &["/a"]] {
            assert!(named(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn conditions_are_amiss_by_who_must_move() {
        let condition = |name: &str, status: &str, reason: &str| json!({ "type": name, "status": status, "reason": reason });
        let status = json!({ "conditions": [
            condition("Ready", "False", "KeyRevoked"),
            condition("KeyUsable", "False", "KeyRevoked"),
            condition("KeyRevoked", "True", "KeyRevoked"),
            condition("Encrypted", "True", "Available"),
            condition("Revocable", "False", "ServiceKey"),
            condition("Restored", "False", "Revoked"),
            condition("Strange", "True", "OfTomorrow"),
            condition("Stranger", "Unknown", "OfTomorrow"),
        ]});
        let names: Vec<_> = amiss(&status).filter_map(|condition| condition["type"].as_str()).collect();
        assert_eq!(names, ["KeyUsable", "KeyRevoked", "Stranger"]);
    }
}
