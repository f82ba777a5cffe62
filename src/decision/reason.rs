//! The closed list of reasons. A condition's reason, an event's reason and the heading in the README are the same word.
//!
//! Says what each means for a reader of status; how soon to look again is `engine::pace`'s business.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $who:ident,)+) => {
        /// Why an object is in the state that its conditions show.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// The word in conditions, events and documentation.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)+ }
            }

            /// The reason of that word, if there is one.
            pub fn parse(word: &str) -> Option<Reason> {
                Reason::ALL.iter().copied().find(|reason| reason.as_str() == word)
            }

            /// One sentence for the documentation.
            pub fn explanation(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// Who must move next.
            pub fn mover(self) -> Mover {
                match self { $(Reason::$name => Mover::$who,)+ }
            }
        }
    };
}

/// Who must move before an object with a given reason can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mover {
    /// Nobody: the promise holds.
    Nobody,
    /// The cloud or the operator; it goes on by itself.
    Time,
    /// A human, outside of the object: a key, a permission, a quota. Looked at again now and then.
    Outside,
    /// A human, in the object: nothing is retried until it changes.
    Object,
}

reasons! {
    /// The promise holds: the resource exists, is encrypted under exactly this key, and is usable.
    Available => Nobody,
    /// The cloud is creating the resource.
    Creating => Time,
    /// The image copy is running.
    Copying => Time,
    /// The copy waits for its turn: the cloud runs five copies in a region and one of a source at a time.
    CopyQueued => Time,
    /// A creation whose answer was lost is left to age, so that it can never be made twice.
    Settling => Time,
    /// Something that may change is being changed as the object asks: power state, names, tags, protection from deletion.
    Adjusting => Time,
    /// The resource is being removed.
    Deleting => Time,
    /// The disk is on its way to an instance.
    Attaching => Time,
    /// The disk, or the one that it replaces, is on its way from an instance.
    Detaching => Time,
    /// The last snapshot of the source disk is being taken.
    Snapshotting => Time,
    /// Something that this object needs is not ready yet; the message names it.
    DependencyNotReady => Time,
    /// The cloud asked for fewer calls; the operator waits for the next window.
    Throttled => Time,
    /// The cloud, the network or the Kubernetes API did not answer properly; the call is repeated.
    CloudUnavailable => Time,
    /// The cloud shows a status that is not documented; nothing is done until it changes.
    StatusUnknown => Time,
    /// The object is suspended by `spec.suspend`.
    Suspended => Object,
    /// A field of the object has a value that cannot work; the message names it.
    InvalidSpec => Object,
    /// A field that may not change was changed after the resource had been created.
    ImmutableFieldChanged => Object,
    /// The cloud refused the request for good; the message carries its code.
    RequestRefused => Object,
    /// Everything is checked and nothing is done yet: the source disk is replaced once `spec.cutover` allows it.
    CutoverPending => Object,
    /// The source image is larger than 500 GiB, which needs a ticket with Alibaba Cloud.
    SourceTooLarge => Object,
    /// The source image, snapshot or disk does not exist in the region, or is not ours to use.
    SourceNotFound => Outside,
    /// The source disk was attached again after its last snapshot, so that its copy may lack what was written since.
    SourceChanged => Outside,
    /// The instance that the disk should be attached to does not exist in the region, or the operator may not see it.
    InstanceNotFound => Outside,
    /// The disk is attached to an instance that this object did not ask for; it is not taken away from there.
    AttachedElsewhere => Outside,
    /// The key does not exist in the region.
    KeyNotFound => Outside,
    /// The key is disabled.
    KeyDisabled => Outside,
    /// A KeyRevocation holds the key.
    KeyRevoked => Outside,
    /// The key is scheduled for deletion.
    KeyPendingDeletion => Outside,
    /// The key waits for key material to be imported.
    KeyPendingImport => Outside,
    /// ECS cannot encrypt under a key of this type: it must be symmetric (Aliyun_AES_256 or Aliyun_SM4).
    KeySpecUnsupported => Outside,
    /// The service key is used, which can never be disabled: access cannot be revoked.
    ServiceKey => Nobody,
    /// A customer key is used: access can be revoked.
    CustomerKey => Nobody,
    /// The role AliyunECSDiskEncryptDefaultRole, or its policy, is missing, or ECS is refused the key in spite of it.
    EcsRoleMissing => Outside,
    /// KMS is not activated in the account.
    KmsNotActivated => Outside,
    /// The operator's identity lacks a permission; the message names the RAM action.
    AccessDenied => Outside,
    /// The operator's credentials are missing, wrong or expired.
    CredentialsInvalid => Outside,
    /// There is no CloudAccount of the name in `spec.accountRef`.
    AccountNotFound => Outside,
    /// The CloudAccount does not allow the object's namespace.
    NamespaceNotAllowed => Outside,
    /// The credentials belong to another account than the one that a CloudAccount stands for, or that the resource is in.
    AccountMismatch => Outside,
    /// The role AliyunECSDiskEncryptDefaultRole was made for something else, or does not trust ECS; it is never changed.
    EcsRoleForeign => Outside,
    /// A quota of the account is used up.
    QuotaExceeded => Outside,
    /// The zone has no stock for this category or type.
    NoStock => Outside,
    /// The account is in arrears.
    Arrears => Outside,
    /// The image copy failed or ran out of time.
    CopyFailed => Outside,
    /// The resource is not encrypted.
    NotEncrypted => Outside,
    /// The resource is encrypted under another key than the object asks for.
    KeyMismatch => Outside,
    /// The resource named by `spec.adopt`, or one with the same name, does not fit this object.
    AdoptionMismatch => Outside,
    /// The resource existed and is gone; it is not made again by itself.
    ExternalGone => Outside,
    /// The resource is in use and is therefore not deleted.
    InUse => Outside,
    /// The resource is protected from deletion in the cloud.
    DeletionProtected => Outside,
    /// The list of what a key protects is being made.
    Planning => Time,
    /// The list of what a revocation would hit is complete; nothing was changed.
    Planned => Nobody,
    /// The key is being taken from ECS.
    Revoking => Time,
    /// Key calls are rejected; running instances may still hold data keys.
    Revoked => Nobody,
    /// Key calls are rejected and no running instance holds a data key.
    Contained => Nobody,
    /// Running instances may still hold a data key in memory.
    StillReadable => Outside,
    /// What was recorded before the revocation is being given back.
    Restoring => Time,
    /// What was recorded before the revocation stands again.
    Restored => Nobody,
    /// A check was not made, or said nothing; it does not count as passed.
    NotVerified => Outside,
    /// As many people as are asked for have approved.
    Approved => Nobody,
    /// Approvals by others than the requester are missing.
    ApprovalMissing => Object,
    /// Nodes of this very cluster have disks under what is taken, and `spec.safety.allowSelfLockout` is not set.
    SelfLockout => Object,
    /// More instances would be hit than `spec.safety.maxAffectedInstances` allows.
    TooManyAffected => Outside,
    /// `spec.safety.acknowledgedDigest` is not the digest of what would be hit now.
    DigestMismatch => Outside,
    /// Not everything could be listed.
    InventoryIncomplete => Outside,
    /// The key belongs to a cloud service, which can be neither disabled nor taken from ECS.
    ServiceKeyNotRevocable => Object,
    /// This object never revoked anything, so there is nothing to restore.
    NothingToRestore => Object,
    /// Another live KeyRevocation holds the same key; it returns with the last of them.
    OverlappingRevocation => Outside,
    /// Somebody took the revocation back out of band; it was made again.
    RevocationReverted => Outside,
    /// The recorded state can be reached only by steps that the operator never takes, such as a deletion.
    PriorStateUnreachable => Outside,
    /// Somebody switched the key after it had been given back, and the operator leaves it so.
    SwitchedSinceRestored => Outside,
    /// Instances that the revocation had stopped refuse to start.
    InstancesNotStarted => Outside,
    /// The audit is looking at the account.
    Scanning => Time,
    /// The audit has looked at the account; the condition `Compliant` says what it found.
    Scanned => Nobody,
    /// Everything that was found is as the audit requires, or exempted.
    Compliant => Nobody,
    /// The key could not be read, or is not shown; it does not count as passed.
    KeyUnknown => Outside,
    /// A disk of the host itself, which the cloud cannot encrypt.
    EncryptionUnsupported => Outside,
    /// The exemption of the resource has expired, and the resource is still not as the audit requires.
    ExemptionExpired => Object,
    /// The region leaves new disks plain for which nobody asks for encryption.
    DefaultOff => Outside,
    /// The journal in status was changed by somebody else than the operator.
    JournalBroken => Outside,
    /// The operator met something that should be impossible; please report it.
    InternalError => Outside,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_is_one_camel_case_word_with_an_explanation() {
        let mut seen = BTreeSet::new();
        for reason in Reason::ALL {
            let word = reason.as_str();
            assert!(seen.insert(word), "{word} stands twice");
            assert!(
                word.chars().all(|c| c.is_ascii_alphanumeric())
                    && word.starts_with(|c: char| c.is_ascii_uppercase())
            );
            assert!(reason.explanation().ends_with('.'), "{word}: {}", reason.explanation());
        }
    }
}
