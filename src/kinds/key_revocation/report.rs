//! What a KeyRevocation says about itself: the recorded steps, the journal, the list, the checks. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::api::{
    ConfigMapReference, KeyRevocation, KeyRevocationStatus, Phase, PriorState, RefusedStop, Stops,
    Verification, VerificationResult,
};
use super::blast::Blast;
use super::decide::{
    Deed, Desired, Goal, Inventory, Lever, Observed, RevocationEffect, Running, Stage, Starts, Step, Switch,
    Wanted,
};
use super::promise::ACCEPTED;
use super::{journal, promise};
use crate::decision::Decision;
use crate::decision::report::Report;

mod evidence;
mod list;
mod words;

pub use list::{config_map, documents, journal_alone};

/// The journal's last entry.
pub const FAREWELL: &str = "ObjectDeleted";
/// The snapshots before the cut.
pub const EVIDENCE: &str = "CreateSnapshot";
/// The stop calls.
pub const STOP: &str = "StopInstances";
/// The start calls.
pub const START: &str = "StartInstances";
/// Before the code of a stop call of which nobody can say that it had no effect.
pub const UNCLEAR: &str = "may stop: ";

/// Instances that status can hold as stopped or refused, all in all: an object of Kubernetes holds a megabyte and a half.
const STOPS_MAX: usize = 5_000;
/// Entries of the shorter lists.
const LIST_MAX: usize = 100;

/// Status, conditions and the sentence for Ready.
pub fn report(
    object: &KeyRevocation,
    desired: &Desired,
    observed: &Observed,
    decision: &Decision<RevocationEffect>,
    now: jiff::Timestamp,
) -> Report<KeyRevocationStatus> {
    let scope = object.metadata.uid.as_deref().unwrap_or_default();
    let mut pen = Pen { scope, now, status: object.status.clone().unwrap_or_default() };
    for deed in &observed.deeds {
        pen.deed(deed);
    }
    let Desired::Present(wanted) = desired else {
        if matches!(decision, Decision::Do(RevocationEffect::Farewell)) {
            let phase = pen.status.phase.map_or("nothing was done".to_owned(), |phase| format!("{phase:?}"));
            pen.line(FAREWELL, &object.spec.key_id, None, &phase);
        }
        let message = "The object is let go of; what it did stays as it is.".to_owned();
        return Report { status: pen.status, facts: Vec::new(), message };
    };
    pen.list(object, observed);
    pen.record(object, wanted, observed, decision);
    if !matches!(decision, Decision::Do(_)) {
        pen.standing(object, wanted, observed, decision);
    }
    if promise::goal(wanted, observed) == Goal::Revoked && observed.stage == Stage::Cut {
        pen.verify(wanted, observed);
    }
    let facts = words::facts(object, wanted, observed, &pen.status);
    let message = words::message(object, wanted, observed, decision, &pen.status);
    Report { status: pen.status, facts, message }
}

/// Instances that should be stopped and were not asked to, or only more gently. Not those for which status has no room: nobody
/// could start them again.
pub fn unasked(status: &KeyRevocationStatus, blast: &Blast, running: Running) -> usize {
    let asked = ToAsk::of(status.stops.as_ref(), blast, running);
    asked.gentle.len() + asked.forced.len()
}

/// What is to be asked to stop.
#[derive(Default)]
struct ToAsk {
    gentle: Vec<String>,
    forced: Vec<String>,
    /// How many more there are than status can hold.
    beyond: usize,
}

impl ToAsk {
    fn of(stops: Option<&Stops>, blast: &Blast, running: Running) -> ToAsk {
        let (gentle, forced) = blast.to_stop(running);
        let (mut by_force, mut gently) = (BTreeSet::new(), BTreeSet::new());
        if let Some(stops) = stops {
            by_force.extend(&stops.forced);
            gently.extend(&stops.instances);
            for refused in &stops.refused {
                if refused.forced { &mut by_force } else { &mut gently }.insert(&refused.id);
            }
        }
        let mut room = STOPS_MAX.saturating_sub(stops.map_or(0, held));
        let mut asked = ToAsk::default();
        for id in forced.into_iter().filter(|id| !by_force.contains(id)) {
            match gently.contains(&id) {
                true => asked.forced.push(id),
                false if room > 0 => {
                    room -= 1;
                    asked.forced.push(id);
                }
                false => asked.beyond += 1,
            }
        }
        let mut gentle: Vec<String> =
            gentle.into_iter().filter(|id| !by_force.contains(id) && !gently.contains(id)).collect();
        asked.beyond += gentle.len().saturating_sub(room);
        gentle.truncate(room);
        ToAsk { gentle, ..asked }
    }
}

/// How many instances the record holds.
fn held(stops: &Stops) -> usize {
    stops.instances.len() + stops.forced.len() + stops.refused.len()
}

/// Writes into the status of one pass.
struct Pen<'a> {
    scope: &'a str,
    now: jiff::Timestamp,
    status: KeyRevocationStatus,
}

impl Pen<'_> {
    fn at(&self, microsecond: i64) -> MicroTime {
        MicroTime(jiff::Timestamp::from_microsecond(microsecond).unwrap_or(self.now))
    }

    fn now(&self) -> MicroTime {
        MicroTime(journal::micros(self.now))
    }

    fn line(&mut self, action: &str, target: &str, request_id: Option<String>, result: &str) {
        let time = self.now;
        self.line_at(time, action, target, request_id, result);
    }

    fn line_at(
        &mut self,
        time: jiff::Timestamp,
        action: &str,
        target: &str,
        request_id: Option<String>,
        result: &str,
    ) {
        let line = journal::Line {
            time,
            action: action.to_owned(),
            target: target.to_owned(),
            request_id,
            result: result.to_owned(),
        };
        journal::append(self.scope, &mut self.status.journal, &mut self.status.journal_anchor, line);
    }

    fn deed(&mut self, deed: &Deed) {
        let time = self.at(deed.at);
        self.line_at(time.0, deed.action, &deed.target, deed.request_id.clone(), &deed.result);
        match deed.action {
            EVIDENCE => self.take_evidence(evidence::of(deed, time)),
            STOP => self.answer_stops(deed),
            _ => {}
        }
    }

    /// What refused is not what this revocation stopped; what may have stopped all the same is. Where several processes asked, the
    /// one that was accepted counts.
    fn answer_stops(&mut self, deed: &Deed) {
        let Some(stops) = &mut self.status.stops else { return };
        let is_refusal = |code: &str| code != ACCEPTED && !code.starts_with(UNCLEAR);
        let may_stop: BTreeSet<&String> =
            deed.details.iter().filter(|(_, code)| !is_refusal(code)).map(|(id, _)| id).collect();
        let (back, refused): (Vec<RefusedStop>, _) =
            std::mem::take(&mut stops.refused).into_iter().partition(|old| may_stop.contains(&old.id));
        stops.refused = refused;
        for RefusedStop { id, forced, .. } in back {
            if forced { &mut stops.forced } else { &mut stops.instances }.push(id);
        }
        // Refusals of an earlier round, and of whoever was later than another process, take nothing away.
        let earlier = deed.at < stops.requested_at.0.as_microsecond();
        if earlier || std::mem::replace(&mut stops.answered, true) {
            return;
        }
        let refused: BTreeMap<&String, &String> =
            deed.details.iter().filter(|(_, code)| is_refusal(code)).map(|(id, code)| (id, code)).collect();
        let forced: BTreeSet<String> =
            stops.forced.iter().filter(|id| refused.contains_key(id)).cloned().collect();
        stops.instances.retain(|id| !refused.contains_key(id));
        stops.forced.retain(|id| !refused.contains_key(id));
        stops.refused.retain(|old| !refused.contains_key(&old.id));
        let room = STOPS_MAX.saturating_sub(held(stops));
        stops.refused.extend(refused.into_iter().take(room).map(|(id, code)| RefusedStop {
            id: id.clone(),
            code: code.chars().take(128).collect(),
            forced: forced.contains(id),
        }));
    }

    /// Who is hit, as far as it is known.
    fn list(&mut self, object: &KeyRevocation, observed: &Observed) {
        let blast = match &observed.inventory {
            Inventory::Done(blast) => blast,
            Inventory::Late => {
                self.status.blast_radius.get_or_insert_with(list::not_yet);
                return;
            }
            Inventory::Unasked | Inventory::Running => return,
        };
        self.status.blast_radius = Some(list::radius(blast));
        self.status.still_readable = Some(list::still_readable(blast, self.status.stops.as_ref()));
        if observed.published && object.metadata.name.is_some() {
            let name = config_map(object, 0);
            let named = |reference: &ConfigMapReference| reference.name == name;
            let kept = self.status.report_ref.take().filter(named);
            self.status.report_ref = kept.or(observed
                .report_namespace
                .clone()
                .map(|namespace| ConfigMapReference { namespace, name }));
        }
    }

    /// The records that are written before what they allow.
    fn record(
        &mut self,
        object: &KeyRevocation,
        wanted: &Wanted,
        observed: &Observed,
        decision: &Decision<RevocationEffect>,
    ) {
        let target = object.spec.key_id.as_str();
        if promise::goal(wanted, observed) >= Goal::Revoked && self.status.timings.requested_at.is_none() {
            self.status.timings.requested_at = Some(self.at(observed.asked_at));
        }
        match decision {
            Decision::Do(RevocationEffect::Record) => {
                self.record_prior(target, wanted, observed);
                let first = observed.deeds.first().map(|deed| self.at(deed.at));
                self.status.timings.first_call_at = first.or_else(|| Some(self.now()));
                self.status.phase = Some(Phase::Revoking);
                if observed.switch == Switch::Unknown {
                    // It may never be seen: then the accepted call is all that can be told.
                    self.note_cut();
                }
                self.record_stops(wanted, observed);
            }
            Decision::Do(RevocationEffect::Reassert) => {
                self.status.reverts += 1;
                self.status.timings.restored_at = None;
                self.status.timings.closed_at = None;
                self.status.phase = Some(Phase::Revoking);
                self.line(journal::REVERTED, target, observed.request_id.clone(), &observed.word);
            }
            Decision::Do(RevocationEffect::RecordStops) => self.record_stops(wanted, observed),
            Decision::Do(RevocationEffect::NoteCut) => self.note_cut(),
            Decision::Do(RevocationEffect::EndRestore) if promise::closes(observed) => {
                self.status.timings.closed_at = Some(self.now());
            }
            Decision::Do(RevocationEffect::EndRestore) => self.restored(object, observed),
            Decision::Do(RevocationEffect::BeginRestore) => {
                if self.status.prior_state.is_none() || observed.inherited.is_some() {
                    self.record_prior(target, wanted, observed);
                }
                self.status.phase = Some(Phase::Restoring);
                let prior = self.status.prior_state.as_ref().map(|prior| prior.key_state.clone());
                self.line("BeginRestore", target, None, &prior.unwrap_or_default());
            }
            _ => {}
        }
    }

    fn record_prior(&mut self, target: &str, wanted: &Wanted, observed: &Observed) {
        let prior = self.prior(wanted, observed);
        let how = match &observed.inherited {
            Some((name, ..)) => format!(", as {name} recorded first"),
            None if wanted.declared => ", as declared".to_owned(),
            None => String::new(),
        };
        let request_id = observed.request_id.clone().filter(|_| how.is_empty());
        self.line(journal::PRIOR, target, request_id, &format!("{}{how}", prior.key_state));
        self.status.prior_state = Some(prior);
    }

    fn prior(&self, wanted: &Wanted, observed: &Observed) -> PriorState {
        let seen = observed.policies.clone().filter(|_| wanted.lever == Lever::Role);
        let (key_state, policies, inherited_from) = match &observed.inherited {
            Some((name, _, word)) => (word.clone(), seen, Some(name.clone())),
            None if wanted.declared => {
                let (word, policies) = promise::declared(wanted.lever);
                (word, policies, None)
            }
            None => (observed.word.clone(), seen, None),
        };
        PriorState {
            key_state: key_state.chars().take(64).collect(),
            ecs_role_policies: policies,
            captured_at: self.now(),
            inherited_from,
        }
    }

    /// Written before the stop calls, so that a restoration after a crash knows what they were about.
    fn record_stops(&mut self, wanted: &Wanted, observed: &Observed) {
        let Inventory::Done(blast) = &observed.inventory else { return };
        let ToAsk { gentle, forced, beyond } = ToAsk::of(self.status.stops.as_ref(), blast, wanted.running);
        if gentle.is_empty() && forced.is_empty() {
            return;
        }
        let count = gentle.len() + forced.len();
        let mut stops = self.status.stops.take().unwrap_or(Stops {
            requested_at: self.now(),
            answered: false,
            instances: Vec::new(),
            forced: Vec::new(),
            refused: Vec::new(),
            started: false,
        });
        stops.requested_at = self.now();
        stops.answered = false;
        let by_force: BTreeSet<&String> = forced.iter().collect();
        stops.instances.retain(|id| !by_force.contains(id));
        stops.refused.retain(|refused| !by_force.contains(&refused.id));
        stops.instances.extend(gentle);
        stops.forced.extend(forced);
        self.status.stops = Some(stops);
        let result = match beyond {
            0 => "Recorded".to_owned(),
            more => format!("Recorded; {more} more than status can hold, which are not asked to stop"),
        };
        self.line("RecordStops", &format!("{count} instances"), None, &result);
    }

    /// How far it has come, once nothing is to be done right now.
    fn standing(
        &mut self,
        object: &KeyRevocation,
        wanted: &Wanted,
        observed: &Observed,
        decision: &Decision<RevocationEffect>,
    ) {
        if observed.stops == Step::Over
            && let Some(stops) = &mut self.status.stops
        {
            stops.answered = true;
        }
        match promise::goal(wanted, observed) {
            Goal::Planned => {
                let listed = matches!(decision, Decision::Settled);
                self.status.phase = Some(if listed { Phase::Planned } else { Phase::Planning });
            }
            Goal::Revoked if observed.stage == Stage::Fresh => self.status.phase = Some(Phase::Held),
            Goal::Revoked if promise::rejected(observed.switch) => {
                self.miss_evidence(wanted, observed);
                self.revoked(object, observed);
            }
            Goal::Revoked => {}
            Goal::Restored if observed.prior.is_none() => self.status.phase = Some(Phase::Held),
            Goal::Restored => {
                if matches!(decision, Decision::Settled) && observed.stage != Stage::Restored {
                    self.restored(object, observed);
                }
                if promise::closes(observed) {
                    self.status.timings.closed_at = Some(self.now());
                }
                if observed.starts == Starts::None
                    && matches!(decision, Decision::Settled)
                    && let Some(stops) = &mut self.status.stops
                {
                    stops.started = true;
                }
            }
        }
    }

    /// What was recorded stands again. Machines that do not start yet do not keep the record of the key open.
    fn restored(&mut self, object: &KeyRevocation, observed: &Observed) {
        self.status.phase = Some(Phase::Restored);
        // The first time counts: what a cut that was under way may still do ends a minute after it.
        self.status.timings.restored_at.get_or_insert(MicroTime(journal::micros(self.now)));
        self.line("Restored", &object.spec.key_id, observed.request_id.clone(), &observed.word);
    }

    fn revoked(&mut self, object: &KeyRevocation, observed: &Observed) {
        let target = object.spec.key_id.as_str();
        self.note_cut();
        if self.status.timings.revoked_at.is_none() {
            self.note_revoked_at(self.now());
        }
        if self.status.phase == Some(Phase::Revoking) {
            self.line("Revoked", target, observed.request_id.clone(), &observed.word);
        }
        let contained = words::contained(observed) == Some(true);
        self.status.phase = Some(if contained { Phase::Contained } else { Phase::Revoked });
        if contained && self.status.timings.contained_at.is_none() {
            let at = self.now();
            self.status.timings.time_to_contain_ms = self.since_request(&at);
            self.status.timings.contained_at = Some(at);
            self.line("Contained", target, None, "no running instance holds a data key");
        }
    }

    /// The time of the accepted call is the time of the revocation.
    fn note_cut(&mut self) {
        let accepted = self
            .status
            .journal
            .iter()
            .rev()
            .find(|entry| promise::CUTS.contains(&entry.action.as_str()) && entry.result == ACCEPTED);
        if let Some(at) = accepted.map(|entry| entry.time.clone())
            && self.status.timings.revoked_at.is_none()
        {
            self.note_revoked_at(at);
        }
    }

    fn note_revoked_at(&mut self, at: MicroTime) {
        self.status.timings.time_to_revoke_ms = self.since_request(&at);
        self.status.timings.revoked_at = Some(at);
    }

    fn since_request(&self, at: &MicroTime) -> Option<i64> {
        let begun = self.status.timings.requested_at.as_ref()?;
        Some((at.0.as_millisecond() - begun.0.as_millisecond()).max(0))
    }

    /// The checks; a result that was seen before keeps its time.
    fn verify(&mut self, wanted: &Wanted, observed: &Observed) {
        let checks = words::checks(wanted, observed, self.status.evidence.as_ref());
        let before = std::mem::take(&mut self.status.verification);
        self.status.verification = checks
            .into_iter()
            .map(|(check, result, detail)| {
                let detail: String = detail.chars().take(512).collect();
                let same = before
                    .iter()
                    .find(|old| old.check == check && old.result == result && old.detail == detail);
                Verification {
                    check: check.to_owned(),
                    result,
                    time: same.map_or_else(|| self.now(), |old| old.time.clone()),
                    detail,
                }
            })
            .collect();
        let passed = self.status.verification.iter().all(|check| check.result == VerificationResult::Pass);
        if passed && !self.status.verification.is_empty() && self.status.timings.verified_at.is_none() {
            self.status.timings.verified_at = Some(self.now());
        }
    }
}

#[cfg(test)]
mod tests;
