//! What a whole scan came to: its regions and the cluster put together. Pure.
//!
//! What could not be read is kept beside what was: it never makes an audit compliant.

use std::collections::{BTreeMap, BTreeSet};

use super::judge::{DefaultFact, Finding, Judgement, Sort, Tally};

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    /// What, and why.
    pub text: String,
    /// What could not be judged for it.
    pub sorts: Vec<Sort>,
    /// True if it may be there in a moment.
    pub passing: bool,
}

/// What came of one region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RegionOutcome {
    /// When it was read, in seconds since 1970.
    pub at: i64,
    /// What was found.
    pub judgement: Judgement,
    /// What could not be read.
    pub gaps: Vec<Gap>,
    /// True if anything could.
    pub read: bool,
    /// The first key that could not be read, and why.
    pub key_error: Option<String>,
    /// What new disks get, if that was seen.
    pub default: Option<DefaultFact>,
}

/// What came of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClusterOutcome {
    /// What was found.
    pub judgement: Judgement,
    /// Why the classes could not be judged.
    pub gap: Option<Gap>,
    /// The first key of a class that could not be read, and why.
    pub key_error: Option<String>,
    /// Why it is not known which disk belongs to which namespace.
    pub namespaces_error: Option<String>,
}

/// A whole scan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// When it ended, in seconds since 1970.
    pub at: i64,
    /// When the next one is due, likewise.
    pub next: i64,
    /// Regions by name.
    pub regions: BTreeMap<String, RegionOutcome>,
    /// The cluster, if there is one.
    pub cluster: Option<ClusterOutcome>,
}

/// What is said in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compliance {
    /// All that there is was read, and is as required.
    Yes,
    /// Something is not.
    No,
    /// Nothing that was read is amiss, but not all could be read.
    Unknown,
}

impl Outcome {
    fn judgements(&self) -> impl Iterator<Item = &Judgement> {
        let cluster = self.cluster.iter().map(|cluster| &cluster.judgement);
        self.regions.values().map(|region| &region.judgement).chain(cluster)
    }

    /// Counts by sort.
    pub fn sorts(&self) -> BTreeMap<Sort, Tally> {
        let mut sorts = BTreeMap::<Sort, Tally>::new();
        for (sort, tally) in self.judgements().flat_map(|judgement| &judgement.sorts) {
            sorts.entry(*sort).or_default().add(tally);
        }
        sorts
    }

    /// Counts of what holds data, each once.
    pub fn total(&self) -> Tally {
        let sorts = self.sorts();
        let mut total = Tally::default();
        [Sort::Disk, Sort::Snapshot].iter().filter_map(|sort| sorts.get(sort)).for_each(|one| total.add(one));
        total
    }

    /// Counts by namespace; None if it is not known which disk belongs to which.
    pub fn namespaces(&self) -> Option<BTreeMap<String, Tally>> {
        if self.cluster.as_ref().is_none_or(|cluster| cluster.namespaces_error.is_some()) {
            return None;
        }
        let mut namespaces = BTreeMap::<String, Tally>::new();
        for (name, tally) in self.judgements().flat_map(|judgement| &judgement.namespaces) {
            namespaces.entry(name.clone()).or_default().add(tally);
        }
        Some(namespaces)
    }

    /// The findings that were kept, worst first.
    pub fn findings(&self) -> Vec<&Finding> {
        let mut findings: Vec<&Finding> =
            self.judgements().flat_map(|judgement| &judgement.findings).collect();
        findings.sort_by(|a, b| a.order().cmp(&b.order()));
        findings
    }

    /// How many findings there are, those that were not kept included.
    pub fn found(&self) -> u32 {
        self.judgements().map(|judgement| judgement.found).sum()
    }

    /// What could not be read: the region, empty for the cluster, and the gap.
    pub fn gaps(&self) -> impl Iterator<Item = (&str, &Gap)> {
        let regions = self.regions.iter();
        let regions = regions.flat_map(|(name, region)| region.gaps.iter().map(move |gap| (&**name, gap)));
        regions.chain(self.cluster.iter().filter_map(|cluster| Some(("", cluster.gap.as_ref()?))))
    }

    /// True if something of the sort was not read in the region, empty for the cluster.
    pub fn lacks(&self, region: &str, sort: Sort) -> bool {
        self.gaps().any(|(place, gap)| place == region && gap.sorts.contains(&sort))
    }

    /// The regions of which something could not be read.
    pub fn unread(&self) -> BTreeSet<String> {
        let unread = self.regions.iter().filter(|(_, region)| !region.gaps.is_empty());
        unread.map(|(name, _)| name.clone()).collect()
    }

    /// The time of the oldest reading in it, in seconds since 1970.
    pub fn oldest(&self) -> i64 {
        self.regions.values().map(|region| region.at).min().unwrap_or(self.at)
    }

    /// True if no region could be read at all.
    pub fn read_nothing(&self) -> bool {
        self.regions.values().all(|region| !region.read)
    }

    /// What is to be said; `kept` findings of earlier scans stand, because their place could not be read.
    pub fn compliance(&self, kept: usize) -> Compliance {
        if self.found() > 0 || kept > 0 {
            return Compliance::No;
        }
        if self.regions.is_empty() || self.gaps().next().is_some() {
            Compliance::Unknown
        } else {
            Compliance::Yes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap() -> Gap {
        Gap { text: "disks: no".into(), sorts: vec![Sort::Disk, Sort::Instance], passing: false }
    }

    #[test]
    fn what_was_not_read_is_never_compliant() {
        let mut outcome = Outcome::default();
        assert_eq!(outcome.compliance(0), Compliance::Unknown, "nothing was looked at");
        let region = RegionOutcome { read: true, ..RegionOutcome::default() };
        outcome.regions.insert("cn-a".into(), region.clone());
        assert_eq!(outcome.compliance(0), Compliance::Yes);
        assert_eq!(outcome.compliance(1), Compliance::No);
        outcome.cluster = Some(ClusterOutcome { gap: Some(gap()), ..ClusterOutcome::default() });
        assert_eq!(outcome.compliance(0), Compliance::Unknown);
        outcome.cluster = None;
        outcome.regions.insert("cn-b".into(), RegionOutcome { gaps: vec![gap()], ..region });
        assert_eq!(outcome.compliance(0), Compliance::Unknown);
        assert!(outcome.lacks("cn-b", Sort::Instance) && !outcome.lacks("cn-a", Sort::Instance));
        outcome.regions.entry("cn-a".into()).or_default().judgement.found = 1;
        assert_eq!(outcome.compliance(0), Compliance::No);
    }

    #[test]
    fn the_total_counts_what_holds_data_and_nothing_twice() {
        let tally = |total| Tally { total, unencrypted: total, ..Tally::default() };
        let sorts = Sort::ALL.iter().map(|sort| (*sort, tally(1))).collect();
        let judgement = Judgement { sorts, ..Judgement::default() };
        let region = RegionOutcome { judgement, ..RegionOutcome::default() };
        let regions = [("cn-a".to_owned(), region.clone()), ("cn-b".to_owned(), region)].into();
        let outcome = Outcome { regions, ..Outcome::default() };
        assert_eq!(outcome.total(), tally(4), "two disks and two snapshots");
        assert_eq!(outcome.sorts()[&Sort::Instance], tally(2));
        assert_eq!(outcome.namespaces(), None, "without a cluster there are none");
    }
}
