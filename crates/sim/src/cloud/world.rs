//! The state of the pretended account: a pure, synchronous state machine over an explicit clock.
//!
//! Deliberately knows no HTTP, no signature and no asynchronous runtime: time moves only in `World::advance`,
//! so that models and tests can drive it by hand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::disks::Disk;
use super::encryption_default::EncryptionDefault;
use super::idempotence::Tokens;
use super::images::Image;
use super::instances::Instance;
use super::keys::{Alias, Key};
use super::names::Names;
use super::parameters::Parameters;
use super::ram::{Policy, Role};
use super::settings::Settings;
use super::snapshots::Snapshot;
use super::verify::{Caller, Credential};

/// Simulated time: milliseconds since the Unix epoch.
pub type Moment = i64;

/// The account number of the first pretended account.
pub const ACCOUNT: &str = "1234567890123456";
/// The most events that one advance may play; a longer jump is a defect of the caller.
const EVENTS_MAX: usize = 1_000_000;

/// What happens later by itself. Each names its resource; a resource whose `pending` number has changed
/// ignores the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// An image copy, or an image made from a machine, is complete.
    ImageDone(String),
    /// A snapshot is complete.
    SnapshotDone(String),
    /// A disk reaches its next status.
    DiskNext(String),
    /// An instance reaches its next status.
    InstanceNext(String),
    /// A scheduled key deletion falls due.
    KeyGone(String),
}

/// Everything that the account holds, and the clock. Maps are keyed by id, which is unique over all regions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct World {
    /// The account number.
    pub account: String,
    /// The current simulated time.
    pub now: Moment,
    /// Own and public images.
    pub images: BTreeMap<String, Image>,
    /// Disks that exist; a deleted disk leaves no trace.
    pub disks: BTreeMap<String, Disk>,
    /// Snapshots.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// Instances.
    pub instances: BTreeMap<String, Instance>,
    /// Keys of KMS.
    pub keys: BTreeMap<String, Key>,
    /// Aliases by region and name, the name with its prefix `alias/`.
    #[serde(serialize_with = "alias_list", deserialize_with = "alias_map")]
    pub aliases: BTreeMap<(String, String), Alias>,
    /// RAM roles by name.
    pub roles: BTreeMap<String, Role>,
    /// RAM policies by name.
    pub policies: BTreeMap<String, Policy>,
    /// Account default encryption by region.
    pub encryption_defaults: BTreeMap<String, EncryptionDefault>,
    /// What tests may change.
    pub settings: Settings,
    /// Open role sessions by access key id.
    #[serde(skip)]
    pub sessions: BTreeMap<String, Credential>,
    /// Remembered ClientTokens.
    #[serde(skip)]
    pub tokens: Tokens,
    /// The source of identifiers.
    #[serde(skip)]
    pub names: Names,
    /// What is still to come.
    #[serde(skip)]
    pub events: Events,
}

/// What is still to come, in its order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Events {
    #[serde(with = "super::keep::pairs")]
    planned: BTreeMap<(Moment, u64), Event>,
    scheduled: u64,
}

/// One verified call, as an action sees it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The action's name.
    pub action: &'static str,
    /// The region that the call concerns.
    pub region: &'a str,
    /// Everything else.
    pub parameters: &'a Parameters,
    /// Who calls.
    pub caller: &'a Caller,
    /// The account that the caller belongs to; nobody belongs to the first.
    pub account: &'a str,
    /// Real time, for everything that clients compare with their own clock.
    pub real_now: Moment,
}

impl World {
    /// An empty account at `now`.
    pub fn empty(seed: u64, now: Moment) -> World {
        World {
            account: ACCOUNT.into(),
            now,
            images: BTreeMap::new(),
            disks: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            instances: BTreeMap::new(),
            keys: BTreeMap::new(),
            aliases: BTreeMap::new(),
            roles: BTreeMap::new(),
            policies: super::ram::system_policies(now),
            encryption_defaults: BTreeMap::new(),
            settings: Settings::default(),
            sessions: BTreeMap::new(),
            tokens: Tokens::default(),
            names: Names::new(seed),
            events: Events::default(),
        }
    }

    /// Plays everything that falls due up to `to`, in order, and sets the clock. A clock never runs
    /// backwards.
    pub fn advance(&mut self, to: Moment) {
        for _ in 0..EVENTS_MAX {
            let Some(entry) = self.events.planned.first_entry().filter(|entry| entry.key().0 <= to) else {
                break;
            };
            let ((due, number), event) = entry.remove_entry();
            self.now = self.now.max(due);
            self.play(event, number);
        }
        self.now = self.now.max(to);
    }

    /// Plans `event` after `seconds` and returns the number that the resource must keep as `pending`.
    pub fn schedule(&mut self, seconds: f64, event: Event) -> u64 {
        self.events.scheduled += 1;
        let due = self.now + (seconds * 1000.0) as Moment;
        self.events.planned.insert((due, self.events.scheduled), event);
        self.events.scheduled
    }

    /// A plausible duration: `seconds` varied by up to a fifth, the same for the same seed and label.
    pub fn plausible_seconds(&self, seconds: f64, label: &str) -> f64 {
        seconds * self.names.variation(label)
    }

    /// False while a resource is too young to be listed.
    pub fn listed(&self, created: Moment) -> bool {
        self.now as f64 >= created as f64 + self.settings.list_lag_seconds * 1000.0
    }

    fn play(&mut self, event: Event, number: u64) {
        match event {
            Event::ImageDone(id) => self.finish_image(&id, number),
            Event::SnapshotDone(id) => self.finish_snapshot(&id, number),
            Event::DiskNext(id) => self.step_disk(&id, number),
            Event::InstanceNext(id) => self.step_instance(&id, number),
            Event::KeyGone(id) => self.finish_key_deletion(&id, number),
        }
    }
}

impl Call<'_> {
    /// What the durations of this call depend on: its ClientToken, or the new resource's id.
    pub fn label<'b>(&'b self, id: &'b str) -> &'b str {
        self.parameters.text("ClientToken").unwrap_or(id)
    }
}

/// A moment as ECS, RAM and STS write it: `2026-01-02T03:04:05Z`.
pub fn iso(moment: Moment) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(moment).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn alias_list<S: serde::Serializer>(
    aliases: &BTreeMap<(String, String), Alias>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(aliases.values())
}

fn alias_map<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<(String, String), Alias>, D::Error> {
    let list = Vec::<Alias>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|alias| ((alias.region.clone(), alias.name.clone()), alias)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::actions;
    use super::*;

    #[test]
    fn the_clock_never_runs_backwards() {
        let mut world = World::empty(1, 1_000);
        world.advance(500);
        assert_eq!(world.now, 1_000);
        world.advance(2_000);
        assert_eq!(world.now, 2_000);
    }

    #[test]
    fn durations_depend_on_seed_and_label_alone() {
        let world = World::empty(7, 0);
        assert_eq!(world.plausible_seconds(10.0, "a"), World::empty(7, 99).plausible_seconds(10.0, "a"));
        assert_ne!(world.plausible_seconds(10.0, "a"), world.plausible_seconds(10.0, "b"));
        assert!((8.0..=12.0).contains(&world.plausible_seconds(10.0, "a")));
    }

    #[test]
    fn a_world_can_be_driven_by_hand_without_any_runtime() {
        let mut world = World::empty(1, 0);
        let pairs = [
            ("RegionId", "cn-beijing"),
            ("ZoneId", "cn-beijing-h"),
            ("DiskCategory", "cloud_auto"),
            ("Size", "1"),
        ];
        let parameters = Parameters(pairs.map(|(key, value)| (key.to_string(), value.to_string())).into());
        let action = actions::find(actions::Service::Ecs, "CreateDisk").expect("an action");
        let caller = Caller::Administrator;
        let call = Call {
            action: action.name,
            region: "cn-beijing",
            parameters: &parameters,
            caller: &caller,
            account: ACCOUNT,
            real_now: 0,
        };
        let answer = actions::perform(&mut world, action, &call).expect("accepted");
        let id = answer["DiskId"].as_str().expect("an id").to_string();
        let twin = world.clone();
        assert_eq!(world.disks[&id].status, "Creating");
        world.advance(10_000);
        assert_eq!(world.disks[&id].status, "Available");
        assert_eq!(twin.disks[&id].status, "Creating", "a clone lives its own life");
    }
}
