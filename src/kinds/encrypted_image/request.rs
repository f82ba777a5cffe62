//! The exact parameters of a CopyImage. Pure; the result is frozen in status and replayed, never rebuilt.

use std::collections::BTreeMap;

use super::decide::{Desired, Observed};
use crate::decision::key::KeyFact;
use crate::kind::Owner;

/// The role that an image plays for its object; part of the token.
const ROLE: &str = "image";

/// CopyImage within one region, always with Encrypted (it has no default in the SDKs) and, where known, the key.
pub fn copy_image(
    desired: &Desired,
    observed: &Observed,
    owner: &Owner,
    attempt: u32,
) -> BTreeMap<String, String> {
    let mut parameters = owner.parameters(ROLE, attempt);
    let Desired::Present(wanted) = desired else { return parameters };
    let mut set = |name: &str, value: String| parameters.insert(name.to_owned(), value);
    set("RegionId", wanted.region.clone());
    set("DestinationRegionId", wanted.region.clone());
    set("ImageId", wanted.source_image_id.clone());
    set("DestinationImageName", wanted.image_name.clone().unwrap_or_else(|| unique_name(owner)));
    set("Encrypted", "true".to_owned());
    if let KeyFact::Usable { id, .. } = &observed.key
        && !id.starts_with("alias/")
    {
        set("KMSKeyId", id.clone());
    }
    let optional = [
        ("DestinationDescription", wanted.description.clone()),
        ("ResourceGroupId", wanted.resource_group_id.clone()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            set(name, value);
        }
    }
    owner.add_tags(&mut parameters, &wanted.tags);
    parameters
}

/// Image names are unique in a region, so the uid is part of the default: a second safeguard beside the token.
fn unique_name(owner: &Owner) -> String {
    let uid: String = owner.uid.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let name: String = owner.console_name().chars().take(128 - 1 - uid.len()).collect();
    format!("{name}-{uid}")
}
