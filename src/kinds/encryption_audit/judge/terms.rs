//! What is required, and what was seen: the values that are judged.

use std::collections::{BTreeMap, BTreeSet};

use crate::decision::Reason;

/// What is required.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    /// True if the service key is not enough.
    pub customer_key: bool,
    /// The only keys that satisfy; empty if every key does.
    pub allowed: BTreeSet<String>,
    /// What is let off.
    pub exemptions: Vec<Exemption>,
    /// True if what regions do with new disks is judged too.
    pub account_default: bool,
}

/// What is let off, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exemption {
    /// What it is for.
    pub target: Target,
    /// Its end, in seconds since 1970.
    pub expires_at: i64,
}

/// What an exemption is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One resource, and with an instance its disks, with an image its snapshots.
    Resource(String),
    /// Everything that carries the tag, likewise.
    Tag(String, String),
}

/// Tags of a resource, as far as exemptions ask for them.
pub type Tags = BTreeMap<String, String>;

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sort {
    /// A disk of the cloud.
    Disk,
    /// A snapshot.
    Snapshot,
    /// A custom image, by all its snapshots.
    Image,
    /// An instance, by all its disks.
    Instance,
    /// A StorageClass of the cluster.
    StorageClass,
    /// What a region does with new disks for which nobody asks for encryption.
    AccountDefault,
}

impl Sort {
    /// All, in the order of status.
    pub const ALL: [Sort; 6] =
        [Sort::Disk, Sort::Snapshot, Sort::Image, Sort::Instance, Sort::StorageClass, Sort::AccountDefault];

    /// The word in status.
    pub fn word(self) -> &'static str {
        match self {
            Sort::Disk => "Disk",
            Sort::Snapshot => "Snapshot",
            Sort::Image => "Image",
            Sort::Instance => "Instance",
            Sort::StorageClass => "StorageClass",
            Sort::AccountDefault => "AccountDefault",
        }
    }
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyClass {
    /// A customer key that can be used.
    Customer,
    /// The key of a cloud service.
    Service,
    /// A KeyRevocation holds it: it is off on purpose.
    Held,
    /// A customer key that cannot be used: KeyDisabled, KeyPendingDeletion, KeyPendingImport.
    Unusable(Reason),
    /// There is no such key.
    Missing,
    /// It could not be read.
    Unknown,
}

/// A disk or a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// True if it is encrypted.
    pub encrypted: bool,
    /// The id of its key, if it is shown.
    pub key: Option<String>,
    /// True for a disk of the host itself, which the cloud cannot encrypt.
    pub local: bool,
    /// The instances that use the disk.
    pub instances: BTreeSet<String>,
    /// Its tags.
    pub tags: Tags,
}

/// A custom image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFact {
    /// The snapshots behind it; None for one that does not show its snapshot.
    pub snapshots: Vec<Option<String>>,
    /// True while it is being made, or if that failed: without a snapshot it then holds nothing.
    pub unfinished: bool,
    /// Its tags.
    pub tags: Tags,
}

/// What a region does with new disks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DefaultFact {
    /// It has no such feature.
    Unavailable,
    /// They stay plain.
    Off,
    /// They are encrypted; None if the key is not shown.
    On(Option<String>),
}

/// What was seen of one region.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its name.
    pub region: String,
    /// Disks by id.
    pub disks: BTreeMap<String, Storage>,
    /// Snapshots by id.
    pub snapshots: BTreeMap<String, Storage>,
    /// Custom images by id.
    pub images: BTreeMap<String, ImageFact>,
    /// Tags of the instances that could be seen.
    pub instances: BTreeMap<String, Tags>,
    /// What is known of keys; one that is not in here is not known.
    pub keys: BTreeMap<String, KeyClass>,
    /// What new disks get, if that was asked.
    pub default: Option<DefaultFact>,
    /// The namespaces of this cluster that have a volume on a disk, by disk.
    pub namespaces: BTreeMap<String, String>,
    /// True if the images could not be read: what is behind one that is let off then cannot be told.
    pub images_unread: bool,
    /// True if the tags of instances could not be read, likewise.
    pub instances_unread: bool,
}

impl Policy {
    /// The tags that exemptions ask for, and no others.
    pub fn tags(&self, all: &Tags) -> Tags {
        let asked = |key: &String| {
            self.exemptions
                .iter()
                .any(|exemption| matches!(&exemption.target, Target::Tag(name, _) if name == key))
        };
        all.iter().filter(|(key, _)| asked(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// True if an exemption goes by tag.
    pub fn asks_for_tags(&self) -> bool {
        self.exemptions.iter().any(|exemption| matches!(exemption.target, Target::Tag(..)))
    }

    /// The end of the first exemption that ends after `now`.
    pub fn next_end(&self, now: i64) -> Option<i64> {
        self.exemptions.iter().map(|exemption| exemption.expires_at).filter(|end| *end > now).min()
    }

    /// True if some instance may be let off by its tags.
    pub fn may_let_off_instances(&self, now: i64) -> bool {
        self.lets_off_any(now, |target| matches!(target, Target::Tag(..)))
    }

    /// True if some image may be let off.
    pub fn may_let_off_images(&self, now: i64) -> bool {
        /// With which the id of every custom image begins.
        const IMAGE: &str = "m-";
        self.lets_off_any(now, |target| match target {
            Target::Tag(..) => true,
            Target::Resource(id) => id.starts_with(IMAGE),
        })
    }

    fn lets_off_any(&self, now: i64, meant: impl Fn(&Target) -> bool) -> bool {
        self.exemptions.iter().any(|exemption| exemption.expires_at > now && meant(&exemption.target))
    }

    /// True if it is let off; false if it was, once; None if nobody ever let it off.
    pub(super) fn lets_off(&self, id: &str, tags: Option<&Tags>, now: i64) -> Option<bool> {
        let meant = |target: &Target| match target {
            Target::Resource(other) => other == id,
            Target::Tag(key, value) => tags.and_then(|tags| tags.get(key)) == Some(value),
        };
        let of_it = self.exemptions.iter().filter(|exemption| meant(&exemption.target));
        of_it.map(|exemption| exemption.expires_at > now).max()
    }
}
