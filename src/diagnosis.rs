//! From the objects of a cluster to what is really wrong: which of them share one cause, and what comes first.
//!
//! Pure: objects in, causes out. Each object leads to at most one other, so that every chain ends, if only in a circle, and every
//! object that is not Ready has exactly one cause. Who reads the objects, and who prints the outcome, is in `cli`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::decision::Reason;
use crate::decision::reason::Mover;
use crate::decision::report::Truth;

/// Names one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its kind.
    pub kind: String,
    /// Its namespace; None for what belongs to the cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// What must be known of an object to find its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub id: Id,
    /// True if its status speaks of the object as it is now.
    pub looked_at: bool,
    /// Status of Ready.
    pub ready: Truth,
    /// True if Stalled is True.
    pub stalled: bool,
    /// Reason of Ready, as a word: it may be one of a newer operator.
    pub reason: String,
    /// Message of Ready.
    pub message: String,
    /// The conditions that hold of which people must hear, whatever Ready says, each in words.
    pub alarms: Vec<String>,
    /// The conditions by which something is not as promised although Ready is True.
    pub concerns: Vec<Concern>,
    /// True if it is known that nobody will look at it before somebody sees to the operator.
    pub forsaken: bool,
    /// True for an object that stands for a whole account: what is the matter with it is its own affair.
    pub is_account: bool,
    /// The region that it names.
    pub region: Option<String>,
    /// The object of the account that it names; None: the operator's own account.
    pub account: Option<Id>,
    /// Other objects that it names.
    pub needs: Vec<Id>,
    /// Keys that it names.
    pub keys: Vec<String>,
    /// The live revocation that holds one of these keys.
    pub held_by: Option<Id>,
    /// The RAM action that was denied to it.
    pub denied: Option<String>,
    /// The cloud's code of its last error.
    pub code: Option<String>,
}

/// A condition by which something is not as promised although Ready is True.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// Its reason.
    pub reason: String,
    /// The whole of it, in words.
    pub words: String,
}

/// How an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The promise holds.
    Ready,
    /// It goes on by itself.
    Working,
    /// Somebody must move.
    Needs,
    /// It rests because somebody asked for that.
    Suspended,
    /// Nobody has looked at it as it is now.
    Unseen,
}

impl Object {
    /// How it stands. A reason that is not known counts as Stalled says.
    pub fn state(&self) -> State {
        let reason = Reason::parse(&self.reason);
        match reason.map(Reason::mover) {
            _ if !self.looked_at => State::Unseen,
            _ if self.ready == Truth::True => State::Ready,
            _ if reason == Some(Reason::Suspended) => State::Suspended,
            Some(Mover::Outside | Mover::Object) => State::Needs,
            _ if self.stalled => State::Needs,
            Some(Mover::Time | Mover::Nobody) | None => State::Working,
        }
    }

    /// True if it has a cause to look for.
    pub fn is_troubled(&self) -> bool {
        self.is_alarmed() || self.is_concerned() || self.state() != State::Ready
    }

    /// True if Ready is True, and something is not as promised all the same. Where Ready is not, it tells enough.
    pub fn is_concerned(&self) -> bool {
        self.state() == State::Ready && !self.concerns.is_empty()
    }

    /// What is not as promised although Ready is True, in words.
    pub fn told_concerns(&self) -> impl Iterator<Item = &str> {
        let told = self.concerns.iter().filter(|_| self.is_concerned());
        told.map(|concern| concern.words.as_str())
    }

    /// The reason by which it is told: that of Ready, unless that says that all is well.
    fn word(&self) -> &str {
        match self.concerns.first() {
            Some(concern) if self.is_concerned() => &concern.reason,
            _ => &self.reason,
        }
    }

    /// True if people must hear of it, whatever Ready says.
    pub fn is_alarmed(&self) -> bool {
        !self.alarms.is_empty()
    }

    /// The key of which its message speaks: the one that it names, or of several the one that the message names.
    fn key(&self) -> Option<&String> {
        let named = self.keys.iter().find(|key| self.message.contains(key.as_str()));
        named.or(self.keys.first().filter(|_| self.keys.len() == 1))
    }
}

/// What is behind one object or many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// This object: mend it, and the others follow.
    Object(Id),
    /// An object that is named and is not there.
    Absent(Id),
    /// An object that is named, and whose kind could not be read.
    Unread(Id),
    /// Objects that wait for one another in a circle, by the first of them.
    Circle(Id),
    /// The same thing outside of all of them.
    Outside {
        /// The reason that they show.
        reason: String,
        /// The object of their account; None: the operator's own account, or the account does not matter.
        account: Option<Id>,
        /// Their region, where it matters.
        region: Option<String>,
        /// What exactly.
        subject: Subject,
    },
    /// Nobody has looked at them.
    Unseen,
    /// Nobody has looked at them, or goes on with them, and nobody will by itself.
    Forsaken,
}

/// What exactly objects have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The reason says it all.
    Nothing,
    /// A key.
    Key(String),
    /// A RAM action that is denied.
    Action(String),
    /// An error code of the cloud.
    Code(String),
    /// A namespace.
    Namespace(String),
}

/// How urgent a cause is; the first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// A condition of which people must hear, whatever Ready says.
    Alarm,
    /// Somebody must move.
    Needs,
    /// Nobody has looked.
    Unseen,
    /// It goes on by itself.
    Working,
    /// Somebody asked for it.
    Suspended,
}

/// Objects that share one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What is behind them.
    pub cause: Cause,
    /// How urgent that is.
    pub urgency: Urgency,
    /// The object whose message speaks of the cause.
    pub speaker: usize,
    /// The objects, in order. The cause's own object is one of them unless it is well.
    pub members: Vec<usize>,
}

/// The way from an object to its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The object, what holds it up, what holds that up, and so on.
    pub steps: Vec<usize>,
    /// The end.
    pub cause: Cause,
}

/// How many objects of a kind stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub total: usize,
    /// The promise holds.
    pub ready: usize,
    /// They go on by themselves.
    pub working: usize,
    /// Somebody must move.
    pub needs: usize,
    /// Somebody asked them to rest.
    pub suspended: usize,
    /// Nobody has looked at them.
    pub unseen: usize,
}

/// The objects of a cluster, in order, and what was read of it.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    objects: Vec<Object>,
    places: HashMap<Id, usize>,
    kinds: BTreeSet<String>,
}

/// Where to look after an object.
enum Next {
    Object(usize),
    End(Cause),
}

impl Diagnosis {
    /// Of these objects, where these kinds could be read: what is not there of another kind may be there all the same.
    pub fn new(mut objects: Vec<Object>, kinds: BTreeSet<String>) -> Diagnosis {
        objects.sort_by(|one, other| one.id.cmp(&other.id));
        let places = objects.iter().enumerate().map(|(place, object)| (object.id.clone(), place)).collect();
        Diagnosis { objects, places, kinds }
    }

    /// The objects, by their names.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// The place of an object.
    pub fn find(&self, id: &Id) -> Option<usize> {
        self.places.get(id).copied()
    }

    /// The counts of every kind that was read, also where they are nothing.
    pub fn counts(&self) -> BTreeMap<&str, Counts> {
        let mut all: BTreeMap<&str, Counts> =
            self.kinds.iter().map(|kind| (kind.as_str(), Counts::default())).collect();
        for object in &self.objects {
            let counts = all.entry(object.id.kind.as_str()).or_default();
            counts.total += 1;
            *match object.state() {
                State::Ready if object.is_troubled() => &mut counts.needs,
                State::Ready => &mut counts.ready,
                State::Working => &mut counts.working,
                State::Needs => &mut counts.needs,
                State::Suspended => &mut counts.suspended,
                State::Unseen => &mut counts.unseen,
            } += 1;
        }
        all
    }

    /// The causes of everything that is not Ready, the most harmful first.
    pub fn groups(&self) -> Vec<Group> {
        let mut causes: BTreeMap<Cause, (usize, Vec<usize>)> = BTreeMap::new();
        for place in (0..self.objects.len()).filter(|place| self.objects[*place].is_troubled()) {
            let chain = self.chain(place);
            let speaker = self.speaker(&chain);
            let (first, members) = causes.entry(chain.cause).or_insert((speaker, Vec::new()));
            *first = speaker.min(*first);
            members.push(place);
        }
        let group = |(cause, (speaker, members)): (Cause, (usize, Vec<usize>))| {
            let urgency = self.urgency(&cause, speaker, &members);
            Group { cause, urgency, speaker, members }
        };
        let mut groups: Vec<Group> = causes.into_iter().map(group).collect();
        groups.sort_by_cached_key(|group| {
            let harm = harm(self.objects[group.speaker].word());
            (group.urgency, harm, Reverse(group.members.len()), group.cause.clone())
        });
        groups
    }

    /// The way from the object in that place to its cause.
    pub fn chain(&self, place: usize) -> Chain {
        let mut steps = vec![place];
        loop {
            let last = steps[steps.len() - 1];
            match self.next(&self.objects[last]) {
                Next::End(cause) => return Chain { steps, cause },
                // The same for everybody who comes to the circle, from wherever.
                Next::Object(next) => match steps.iter().position(|step| *step == next) {
                    Some(begin) => {
                        let first = steps[begin..].iter().min().copied().unwrap_or(next);
                        return Chain { steps, cause: Cause::Circle(self.objects[first].id.clone()) };
                    }
                    None => steps.push(next),
                },
            }
        }
    }

    /// Who must move before the objects of the group can go on.
    pub fn mover(&self, group: &Group) -> Mover {
        match (&group.cause, group.urgency) {
            (Cause::Absent(_) | Cause::Circle(_) | Cause::Forsaken, _) | (_, Urgency::Alarm) => {
                Mover::Outside
            }
            (Cause::Unseen, _) => Mover::Time,
            (_, urgency) => {
                match (Reason::parse(self.objects[group.speaker].word()).map(Reason::mover), urgency) {
                    // What holds others up although its own promise holds is ended by whoever asked for it.
                    (Some(Mover::Nobody) | None, Urgency::Needs) => Mover::Outside,
                    (Some(mover), _) => mover,
                    (None, _) => Mover::Time,
                }
            }
        }
    }

    /// Whose message speaks of the cause: the object itself, or the last on the way.
    fn speaker(&self, chain: &Chain) -> usize {
        let named = match &chain.cause {
            Cause::Object(id) | Cause::Circle(id) => self.find(id),
            Cause::Absent(_) | Cause::Unread(_) | Cause::Outside { .. } | Cause::Unseen | Cause::Forsaken => {
                None
            }
        };
        named.unwrap_or(chain.steps[chain.steps.len() - 1])
    }

    fn urgency(&self, cause: &Cause, speaker: usize, members: &[usize]) -> Urgency {
        let needy = members.iter().any(|place| self.objects[*place].state() == State::Needs);
        let speaker = &self.objects[speaker];
        match (cause, speaker.state()) {
            (Cause::Object(_), _) if speaker.is_alarmed() => Urgency::Alarm,
            (Cause::Absent(_) | Cause::Circle(_) | Cause::Forsaken, _) => Urgency::Needs,
            _ if needy => Urgency::Needs,
            // A revocation is well, and holds others up.
            (_, State::Ready | State::Needs) => Urgency::Needs,
            (_, State::Unseen) => Urgency::Unseen,
            (_, State::Working) => Urgency::Working,
            (_, State::Suspended) => Urgency::Suspended,
        }
    }

    fn next(&self, object: &Object) -> Next {
        let own = || Next::End(Cause::Object(object.id.clone()));
        match object.state() {
            _ if object.is_alarmed() => return own(),
            State::Ready => return own(),
            State::Unseen if object.forsaken => return Next::End(Cause::Forsaken),
            State::Unseen => return Next::End(Cause::Unseen),
            State::Working | State::Needs | State::Suspended => {}
        }
        if let Some(account) = self.through_account(object) {
            return account;
        }
        let reason = Reason::parse(&object.reason);
        match (reason, &object.held_by) {
            // Why the revocation itself is not Ready, if it is not, is no cause of what it holds.
            (Some(Reason::KeyRevoked), Some(holder)) => Next::End(Cause::Object(holder.clone())),
            (Some(Reason::DependencyNotReady), _) => {
                let blocking = object.needs.iter().find_map(|id| self.blocking(id));
                blocking.unwrap_or_else(|| Next::End(outside(object)))
            }
            _ => Next::End(outside(object)),
        }
    }

    /// The account, if it is what the object's reason speaks of: an object takes over the reason of its account.
    fn through_account(&self, object: &Object) -> Option<Next> {
        let account = object.account.as_ref()?;
        let reason = Reason::parse(&object.reason);
        let Some(place) = self.find(account) else {
            let missing = reason == Some(Reason::AccountNotFound);
            return missing.then(|| Next::End(Cause::Absent(account.clone())));
        };
        let other = &self.objects[place];
        if other.is_concerned() {
            let is_told = other.concerns.iter().any(|concern| concern.reason == object.reason);
            return is_told.then_some(Next::Object(place));
        }
        let same = other.looked_at && other.reason == object.reason;
        let speaks_of_it = same || reason == Some(Reason::DependencyNotReady);
        (speaks_of_it && other.state() != State::Ready).then_some(Next::Object(place))
    }

    /// The object that is named, if it can hold up who names it.
    fn blocking(&self, id: &Id) -> Option<Next> {
        match self.find(id) {
            Some(place) if self.objects[place].state() == State::Ready => None,
            Some(place) => Some(Next::Object(place)),
            None if self.kinds.contains(&id.kind) => Some(Next::End(Cause::Absent(id.clone()))),
            None => Some(Next::End(Cause::Unread(id.clone()))),
        }
    }
}

/// The cause of an object that no other object holds up: what others may have in common with it, or itself.
fn outside(object: &Object) -> Cause {
    use Reason::{
        AccessDenied, AccountNotFound, Arrears, CredentialsInvalid, EcsRoleForeign, EcsRoleMissing,
        KeyDisabled, KeyNotFound, KeyPendingDeletion, KeyPendingImport, KeyRevoked, KeySpecUnsupported,
        KmsNotActivated, NamespaceNotAllowed, NoStock, QuotaExceeded,
    };
    let own = || Cause::Object(object.id.clone());
    let at = |account: &Option<Id>, region: &Option<String>, subject| Cause::Outside {
        reason: object.reason.clone(),
        account: account.clone(),
        region: region.clone(),
        subject,
    };
    let (account, region, nowhere) = (&object.account, &object.region, &None);
    let code = || object.code.clone().map_or(Subject::Nothing, Subject::Code);
    match Reason::parse(&object.reason) {
        _ if object.is_account => own(),
        Some(
            KeyNotFound | KeyDisabled | KeyRevoked | KeyPendingDeletion | KeyPendingImport
            | KeySpecUnsupported,
        ) => object.key().map_or_else(own, |key| at(account, region, Subject::Key(key.clone()))),
        Some(
            EcsRoleMissing | EcsRoleForeign | KmsNotActivated | Arrears | CredentialsInvalid
            | AccountNotFound,
        ) => at(account, nowhere, Subject::Nothing),
        Some(AccessDenied) => at(account, nowhere, object.denied.clone().map_or_else(code, Subject::Action)),
        Some(NamespaceNotAllowed) => {
            let namespace = object.id.namespace.clone().map_or(Subject::Nothing, Subject::Namespace);
            at(account, nowhere, namespace)
        }
        Some(QuotaExceeded | NoStock) => at(account, region, code()),
        _ => match object.state() {
            State::Working if object.forsaken => Cause::Forsaken,
            State::Working | State::Suspended => at(&None, nowhere, Subject::Nothing),
            State::Ready | State::Needs | State::Unseen => own(),
        },
    }
}

/// What comes first among equally urgent causes: data that may be lost or lies open, and an emergency that is held up.
fn harm(reason: &str) -> u8 {
    use Reason::{
        ApprovalMissing, DigestMismatch, InventoryIncomplete, KeyMismatch, KeyPendingDeletion, NotEncrypted,
        NotVerified, PriorStateUnreachable, SelfLockout, SourceChanged, StillReadable, TooManyAffected,
    };
    match Reason::parse(reason) {
        Some(KeyPendingDeletion | NotEncrypted | KeyMismatch | SourceChanged) => 0,
        Some(ApprovalMissing | DigestMismatch | InventoryIncomplete | SelfLockout | TooManyAffected) => 0,
        Some(NotVerified | StillReadable | PriorStateUnreachable) => 0,
        _ => 1,
    }
}

#[cfg(test)]
mod tests;
