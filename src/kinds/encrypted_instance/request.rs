//! The exact parameters of a RunInstances. Pure; the result is frozen in status and replayed, never rebuilt.

use std::collections::BTreeMap;

use super::decide::{Desired, DiskWish, ImageFact, KeyChoice, Observed, UserDataFact, Wanted};
use crate::decision::key::KeyFact;
use crate::kind::Owner;
use crate::resource::tag;

/// The role that an instance plays for its object; part of the token.
const ROLE: &str = "instance";
/// What its tag says of it, and of its disks.
pub const KIND: &str = "EncryptedInstance";
/// The parameter that carries the user data.
pub const USER_DATA: &str = "UserData";
/// What stands in its place in the recorded request: the version of the Secret, which no base64 text looks like.
///
/// The request is recorded in status, which far more people may read than the Secret. A digest would let them test guesses.
/// The version is as good as the content for a replay: the API server changes it with every change of the Secret.
pub const USER_DATA_VERSION: &str = "secret-version:";

/// RunInstances for one instance, with every disk explicitly encrypted.
pub fn run_instances(
    desired: &Desired,
    observed: &Observed,
    owner: &Owner,
    attempt: u32,
) -> BTreeMap<String, String> {
    let mut parameters = owner.parameters(ROLE, attempt);
    let Desired::Present(wanted) = desired else { return parameters };
    let name = wanted.instance_name.clone().unwrap_or_else(|| owner.console_name());
    let mut set = |name: &str, value: String| parameters.insert(name.to_owned(), value);
    set("RegionId", wanted.region.clone());
    set("ZoneId", wanted.zone_id.clone());
    set("Amount", "1".to_owned());
    set("InstanceType", wanted.instance_type.clone());
    set("InstanceName", name);
    set("VSwitchId", wanted.vswitch_id.clone());
    set("DeletionProtection", wanted.protect.to_string());
    set("HttpEndpoint", "enabled".to_owned());
    set("HttpTokens", if wanted.metadata_token { "required" } else { "optional" }.to_owned());
    if let ImageFact::Ready { id, .. } = &observed.image {
        set("ImageId", id.clone());
    }
    for (index, group) in wanted.security_group_ids.iter().enumerate() {
        set(&format!("SecurityGroupIds.{}", index + 1), group.clone());
    }
    let version = match &observed.user_data {
        UserDataFact::Ready { version, .. } => Some(format!("{USER_DATA_VERSION}{version}")),
        _ => None,
    };
    let optional = [
        ("Description", wanted.description.clone()),
        ("RamRoleName", wanted.ram_role_name.clone()),
        ("KeyPairName", wanted.key_pair_name.clone()),
        ("ResourceGroupId", wanted.resource_group_id.clone()),
        (USER_DATA, version),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            set(name, value);
        }
    }
    put_disk(&mut parameters, "SystemDisk", &wanted.system, wanted, observed);
    for (index, disk) in wanted.data.iter().enumerate() {
        let prefix = format!("DataDisk.{}", index + 1);
        put_disk(&mut parameters, &prefix, disk, wanted, observed);
        parameters.insert(format!("{prefix}.DiskName"), disk_name(owner, &disk.name));
        parameters.insert(format!("{prefix}.DeleteWithInstance"), disk.delete_with_instance.to_string());
    }
    let kind = (tag::KIND.to_owned(), KIND.to_owned());
    let tags: Vec<_> = std::iter::once(kind).chain(wanted.tags.iter().cloned()).collect();
    owner.add_tags(&mut parameters, &tags);
    parameters
}

/// The name of a data disk in the console, by which it is recognised later: at most 128 characters.
pub fn disk_name(owner: &Owner, name: &str) -> String {
    /// The longest name in an object, and the hyphen before it.
    const SUFFIX_MAX: usize = 33;
    let base: String = owner.console_name().chars().take(128 - SUFFIX_MAX).collect();
    format!("{base}-{name}")
}

fn put_disk(
    parameters: &mut BTreeMap<String, String>,
    prefix: &str,
    disk: &DiskWish,
    wanted: &Wanted,
    observed: &Observed,
) {
    let mut set = |name: &str, value: String| parameters.insert(format!("{prefix}.{name}"), value);
    set("Category", disk.category.clone());
    set("Size", disk.size_gib.to_string());
    set("Encrypted", "true".to_owned());
    if let Some(level) = &disk.performance_level {
        set("PerformanceLevel", level.clone());
    }
    if let Some(id) = key_id(disk.key.as_ref().unwrap_or(&wanted.key), observed) {
        set("KMSKeyId", id);
    }
}

/// The id of a usable key. The service key has none before its first use, and is what the cloud takes where none is named.
fn key_id(choice: &KeyChoice, observed: &Observed) -> Option<String> {
    match observed.keys.get(&choice.text) {
        Some(KeyFact::Usable { id, .. }) if !id.starts_with("alias/") => Some(id.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn owner() -> Owner {
        Owner { cluster: "c".into(), namespace: "team".into(), name: "web".into(), uid: "u".into() }
    }

    fn observed() -> Observed {
        let key = |id: &str, service| KeyFact::Usable { id: id.into(), service };
        let keys = [
            ("key-a", key("key-a", false)),
            ("alias/b", key("key-b", false)),
            ("alias/acs/ecs", key("alias/acs/ecs", true)),
        ];
        Observed {
            keys: keys.map(|(text, key)| (text.to_owned(), key)).into(),
            image: ImageFact::Ready { id: "m-1".into(), size_gib: 20 },
            user_data: UserDataFact::Ready { version: "uid@7".into(), replayable: true },
            instances: BTreeSet::new(),
            hidden: None,
            known: None,
            born: false,
            missed: false,
            creation: Default::default(),
            refusal: None,
            namesake: None,
            repointed: BTreeSet::new(),
        }
    }

    fn wanted() -> Wanted {
        let disk = |name: &str, key: Option<&str>| DiskWish {
            name: name.into(),
            category: "cloud_essd".into(),
            size_gib: 40,
            key: key.map(|text| KeyChoice { text: text.into(), service: false }),
            ..DiskWish::default()
        };
        Wanted {
            region: "cn-a".into(),
            key: KeyChoice { text: "key-a".into(), service: false },
            system: disk("", None),
            data: vec![disk("logs", Some("alias/b")), disk("tmp", Some("alias/acs/ecs"))],
            metadata_token: true,
            security_group_ids: vec!["sg-1".into(), "sg-2".into()],
            ..Wanted::default()
        }
    }

    #[test]
    fn every_disk_is_encrypted_explicitly_under_its_own_key() {
        let made = run_instances(&Desired::Present(Box::new(wanted())), &observed(), &owner(), 1);
        for disk in ["SystemDisk", "DataDisk.1", "DataDisk.2"] {
            assert_eq!(made[&format!("{disk}.Encrypted")], "true");
        }
        assert_eq!((&*made["SystemDisk.KMSKeyId"], &*made["DataDisk.1.KMSKeyId"]), ("key-a", "key-b"));
        assert!(!made.contains_key("DataDisk.2.KMSKeyId"), "an alias is no key id");
        assert_eq!(
            (&*made["Amount"], &*made["HttpTokens"], &*made["SecurityGroupIds.2"]),
            ("1", "required", "sg-2")
        );
        assert_eq!(made["DataDisk.1.DiskName"], "ecskms-team-web-logs");
        assert_eq!(made["Tag.5.Key"], tag::KIND);
    }

    #[test]
    fn the_recorded_request_holds_the_version_of_the_secret_and_not_its_content() {
        let made = run_instances(&Desired::Present(Box::new(wanted())), &observed(), &owner(), 1);
        assert_eq!(made[USER_DATA], "secret-version:uid@7");
    }

    #[test]
    fn the_largest_request_fits_into_status() {
        let mut wanted = wanted();
        let disk = DiskWish { performance_level: Some("PL1".into()), ..wanted.data[0].clone() };
        wanted.data = vec![disk.clone(); 16];
        wanted.system = disk;
        wanted.security_group_ids = vec!["sg-1".into(); 16];
        wanted.tags = (0..15).map(|number| (format!("k{number}"), "v".into())).collect();
        (wanted.description, wanted.ram_role_name) = (Some("d".into()), Some("r".into()));
        (wanted.key_pair_name, wanted.resource_group_id) = (Some("k".into()), Some("rg-1".into()));
        let made = run_instances(&Desired::Present(Box::new(wanted)), &observed(), &owner(), 1);
        assert!(made.len() <= 256, "{}", made.len());
        assert!(
            disk_name(
                &Owner { namespace: "n".repeat(63), name: "x".repeat(253), ..owner() },
                &"d".repeat(32)
            )
            .len()
                <= 128
        );
    }
}
