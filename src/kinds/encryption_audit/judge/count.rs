//! What came of judging: counts, and findings in a fixed order.

use std::collections::BTreeMap;

use super::terms::Sort;
use crate::decision::Reason;

/// How something is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Not encrypted, at least in part.
    Plain,
    /// Not known.
    Unknown,
    /// Under the key of a service.
    Service,
    /// Under a customer key.
    Customer,
}

/// How many there are of what. The first four of the parts make up the total.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally {
    /// All.
    pub total: u32,
    /// Under a customer key.
    pub customer_key: u32,
    /// Under the key of a service.
    pub service_key: u32,
    /// Not encrypted, at least in part.
    pub unencrypted: u32,
    /// It is not known whether, or under what sort of key.
    pub unknown: u32,
    /// Let off.
    pub exempt: u32,
    /// Not as required, and not let off.
    pub violations: u32,
}

impl Tally {
    pub(super) fn count(&mut self, class: Class) {
        self.total += 1;
        match class {
            Class::Plain => self.unencrypted += 1,
            Class::Unknown => self.unknown += 1,
            Class::Service => self.service_key += 1,
            Class::Customer => self.customer_key += 1,
        }
    }

    pub(super) fn judge(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Passes | Verdict::Open => {}
            Verdict::Exempt => self.exempt += 1,
            Verdict::Violates(..) => self.violations += 1,
        }
    }

    /// Adds the other one to this.
    pub fn add(&mut self, other: &Tally) {
        self.total += other.total;
        self.customer_key += other.customer_key;
        self.service_key += other.service_key;
        self.unencrypted += other.unencrypted;
        self.unknown += other.unknown;
        self.exempt += other.exempt;
        self.violations += other.violations;
    }

    /// Percent that are known to be encrypted, rounded down: 100 means all. None if there is nothing.
    pub fn coverage_percent(&self) -> Option<u32> {
        self.percent(self.customer_key + self.service_key)
    }

    /// Percent to which access can be revoked, likewise.
    pub fn revocable_percent(&self) -> Option<u32> {
        self.percent(self.customer_key)
    }

    fn percent(&self, part: u32) -> Option<u32> {
        let percent = (u64::from(part) * 100).checked_div(u64::from(self.total))?;
        u32::try_from(percent).ok()
    }
}

/// Something that is not as required.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// What it is.
    pub sort: Sort,
    /// Its id; the name of a class, the region of a default.
    pub id: String,
    /// Its region; empty for a class.
    pub region: String,
    /// The instance that uses the disk; the first of several.
    pub instance: Option<String>,
    /// The namespace of this cluster that has a volume on the disk.
    pub namespace: Option<String>,
    /// Why.
    pub reason: Reason,
    /// What would be the reason, had there been no exemption that expired.
    pub behind: Reason,
    /// The key that it is about.
    pub key: Option<String>,
    /// The disks of an instance, or snapshots of an image, that are meant.
    pub parts: Vec<String>,
}

impl Finding {
    /// Worst first, then by id, so that the order is the same each time.
    pub fn order(&self) -> (u8, &str, &str, Sort) {
        (rank(self.reason), &self.id, &self.region, self.sort)
    }
}

/// The order of reasons: what is open, what is about to be lost, what cannot be revoked, what is not known, what may happen.
pub fn rank(reason: Reason) -> u8 {
    const ORDER: [Reason; 11] = [
        Reason::NotEncrypted,
        Reason::EncryptionUnsupported,
        Reason::ExemptionExpired,
        Reason::KeyPendingDeletion,
        Reason::KeyNotFound,
        Reason::KeyDisabled,
        Reason::KeyPendingImport,
        Reason::KeyMismatch,
        Reason::ServiceKey,
        Reason::KeyUnknown,
        Reason::DefaultOff,
    ];
    let place = ORDER.iter().position(|known| *known == reason).unwrap_or(ORDER.len());
    u8::try_from(place).unwrap_or(u8::MAX)
}

/// What came of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is as required.
    Passes,
    /// It is let off.
    Exempt,
    /// It is not as required, and whether something lets it off could not be read.
    Open,
    /// The reason to show, and the one behind it.
    Violates(Reason, Reason),
}

/// What came of a region, or of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Judgement {
    /// Counts by sort.
    pub sorts: BTreeMap<Sort, Tally>,
    /// Counts of disks by namespace of this cluster.
    pub namespaces: BTreeMap<String, Tally>,
    /// The findings that are kept, worst first.
    pub findings: Vec<Finding>,
    /// How many there are in all.
    pub found: u32,
}

impl Judgement {
    /// Sorts the findings and keeps the worst ones.
    pub fn keep(mut self, limit: usize) -> Judgement {
        self.findings.sort_by(|a, b| a.order().cmp(&b.order()));
        self.findings.truncate(limit);
        self
    }

    pub(super) fn find(&mut self, finding: Finding) {
        self.found += 1;
        self.findings.push(finding);
    }

    pub(super) fn tally(&mut self, sort: Sort) -> &mut Tally {
        self.sorts.entry(sort).or_default()
    }
}
