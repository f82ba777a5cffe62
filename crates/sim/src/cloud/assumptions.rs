//! Every behaviour of the simulated cloud that is our reading of a document, or a guess.
//!
//! Each acts at the place in the code that carries the mark `assumption: <id>`; a test holds list and marks
//! together. Documented behaviour is not listed here.

use serde::Serialize;

/// One assumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Assumption {
    /// The id that the code is marked with.
    pub id: &'static str,
    /// What is assumed.
    pub text: &'static str,
    /// What is documented about it, and where; "none" if nothing is.
    pub reference: &'static str,
}

/// All assumptions, in the order of their subjects.
pub fn assumptions() -> &'static [Assumption] {
    ASSUMPTIONS
}

const fn a(id: &'static str, text: &'static str, reference: &'static str) -> Assumption {
    Assumption { id, text, reference }
}

static ASSUMPTIONS: &[Assumption] = &[
    // Calls in general.
    a(
        "region-of-a-call",
        "A call without RegionId and without the header x-acs-region-id concerns the region that a label \
         of its host \
        names, else the region of the resource that it names, else the home region.",
        "Real regions have hosts of their own; one port stands for all of them here.",
    ),
    a(
        "unknown-action-codes",
        "An unknown API version is InvalidVersion 400, an unknown action InvalidAction.NotFound 404.",
        "none",
    ),
    a(
        "missing-parameter",
        "A missing required parameter is MissingParameter 400 in every action.",
        "ECS common errors name MissingParameter",
    ),
    a(
        "invalid-parameter",
        "An unreadable parameter is InvalidParameter.<name> 400 unless the action documents another code.",
        "none",
    ),
    a(
        "page-size-clamped",
        "Page sizes out of range are clamped, for numbered pages as for tokens.",
        "Documented for MaxResults alone",
    ),
    a("bad-next-token", "A foreign NextToken is InvalidNextToken 400.", "none"),
    a(
        "quota-figures",
        "1,000 calls per minute, region and action.",
        "Real figures are shown in Quota Center only",
    ),
    a(
        "throttling-codes",
        "ECS, RAM and STS answer Throttling.User 400, with x-acs-retry-after to the end of the window.",
        "ECS documents several Throttling codes; the SDKs read the header",
    ),
    a(
        "tag-codes",
        "A reserved or malformed tag is InvalidTagKey.Malformed or InvalidTagValue.Malformed 400.",
        "none",
    ),
    a("tagging-what-is-gone", "Tagging a missing resource is InvalidResourceId.NotFound 404.", "none"),
    // Signatures and sessions.
    a(
        "unsigned-request-code",
        "A request without a signature, or with another algorithm, is IncompleteSignature 400.",
        "IncompleteSignature is documented for malformed signatures",
    ),
    a(
        "headers-that-must-be-signed",
        "host, content-type and every x-acs-* header must be signed; accept and user-agent may be.",
        "The page demands every common header, its own example signs these",
    ),
    a(
        "signature-message-echoes",
        "SignatureDoesNotMatch repeats the string to sign and the canonical request.",
        "Seen in practice for older signatures",
    ),
    a(
        "oidc-codes",
        "An unknown OIDC provider is EntityNotExist.OIDCProvider 404; bad tokens are \
         AuthenticationFail.OIDCToken.Invalid \
        and .Expired 400.",
        "AuthenticationFail.OIDCToken.* is documented without a list",
    ),
    a(
        "oidc-signature-unchecked",
        "The signature of an OIDC token is not checked, its shape, audience and expiry are.",
        "A limit of the simulation",
    ),
    a(
        "trust-conditions",
        "Conditions of a trust policy know StringEquals with sts:ExternalId, oidc:aud, oidc:iss and oidc:sub; any \
         other condition does not hold.",
        "These four are what the pages on RRSA and on external ids use",
    ),
    a(
        "metadata-answers",
        "Without its token the metadata service answers 403, an instance without a role 404; a token lives as long as \
         its header asks, 1 to 21600 seconds.",
        "Paths, headers and JSON are those of the official SDK; refusals are not documented",
    ),
    // Permissions and RAM.
    a(
        "access-denied-detail",
        "Every denial carries AccessDeniedDetail with AuthAction, and NoPermissionType ImplicitDeny.",
        "RAM documents the object, not which services send it",
    ),
    a(
        "pass-role",
        "RunInstances with RamRoleName also needs ram:PassRole on the role, and its denial is Forbidden.RAM with that \
         action.",
        "RAM documents the action, not what RunInstances answers without it",
    ),
    a("conditions-are-not-read", "Conditions in policies are ignored.", "A limit of the simulation"),
    a(
        "ram-codes",
        "MalformedPolicyDocument 400 for a bad trust policy.",
        "Named by analogy; the page links to the error center",
    ),
    a(
        "role-arn-lower-case",
        "Role ARNs carry the role's name in lower case.",
        "Seen in examples; letter case is not documented",
    ),
    a(
        "resource-of-list-policies",
        "ListPoliciesForRole is checked on the role alone.",
        "The table of RAM authentication names two resources for attaching and detaching, and lacks this action",
    ),
    a(
        "policy-attached-already",
        "Attaching a policy that is attached already is EntityAlreadyExists.Role.Policy 409.",
        "Named by analogy; the page links to the error center",
    ),
    a(
        "grants-act-at-once",
        "Attaching and detaching a policy acts on the next call.",
        "\"Takes effect immediately\"; no figure is published",
    ),
    // ClientTokens.
    a("token-scope", "A ClientToken is remembered per region and action.", "The scope is not documented"),
    a(
        "token-lifetime",
        "A ClientToken is remembered for 24 hours, even when what it made is deleted.",
        "The lifetime is not documented",
    ),
    a(
        "token-failures",
        "Every refusal of the action itself is remembered, dry runs are not.",
        "The FAQ advises a new token after an out-of-stock failure",
    ),
    a(
        "token-mismatch-codes",
        "Reused tokens are IdempotentParameterMismatch 400 (CreateSnapshot 403), CreateImage \
         IdempotenceParamNotMatch 400.",
        "The codes are documented, their status differs between pages",
    ),
    // Keys.
    a(
        "key-parameter-takes-ids",
        "ECS understands a key id, neither ARN nor alias, in KMSKeyId.",
        "Accepted forms are not documented",
    ),
    a(
        "pending-deletion-code",
        "A key that is pending deletion or import is refused as CMKNotEnabled.",
        "Only disabled keys are documented",
    ),
    a(
        "wrong-key-spec-code",
        "CopyImage, RunInstances and AttachDisk refuse an asymmetric key with \
         DataEncryptedKeyCreateFailed 403.",
        "CreateDisk and CopySnapshot document NotSymmetric, the others nothing",
    ),
    a(
        "ecs-tags-the-key",
        "ECS tags a customer key acs:ecs:disk-encryption=true whenever it uses it, and never fails to.",
        "Documented for the first use",
    ),
    a(
        "service-key-appears-at-first-use",
        "The service key of a region is made when first needed.",
        "Documented without the moment",
    ),
    a(
        "service-key-refusal",
        "Changing a service key is Forbidden.NoPermission 403.",
        "That it cannot be changed is documented, the code is not",
    ),
    a(
        "alias-where-id-is-needed",
        "State changes, aliases and tags refuse an alias in KeyId with Unsupported.Alias 400.",
        "The code is documented, not where it applies",
    ),
    a(
        "deletion-protection-code",
        "Scheduling the deletion of a protected key is Rejected.DeletionProtected 409.",
        "none",
    ),
    a(
        "old-tag-calls-take-reserved-keys",
        "TagResource and UntagResource accept keys that start with acs:.",
        "Only the newer calls document that they refuse them",
    ),
    a(
        "running-machines-keep-their-key",
        "A machine that runs when its key is disabled, deleted or taken from ECS runs on, for as long as nobody stops it.",
        "The key is unwrapped when a machine starts; no page promises how long that holds",
    ),
    a(
        "key-filter-of-listings",
        "The filter KMSKeyId of DescribeDisks and DescribeSnapshots takes the key's id, neither ARN nor alias, and works \
         in whatever state the key is.",
        "Listings document no error of KMS; the accepted forms are not documented",
    ),
    a("key-lost-during-copy", "A copy whose key is unusable at its end becomes CreateFailed.", "none"),
    // Images.
    a(
        "public-image-is-not-found",
        "Public images cannot be copied, changed or deleted: InvalidImageId.NotFound 404.",
        "That they cannot be copied is documented, the code is not",
    ),
    a(
        "image-name-alphabet",
        "Image names hold letters, digits, periods, colons, underscores and hyphens.",
        "Documented for other names",
    ),
    a(
        "name-filter-wildcard",
        "The ImageName filter matches the whole name, or a prefix before a star.",
        "Fuzzy search is documented in general",
    ),
    a(
        "image-names-in-any-status",
        "ModifyImageAttribute changes names and descriptions of an image in any status, also a deprecated one.",
        "The parameters are documented without the states that allow them",
    ),
    a("copy-without-name", "A copy without a name gets its id as name.", "none"),
    a("description-code", "A bad description is InvalidDescription.Malformed 400.", "none"),
    a(
        "destination-region-code",
        "An unknown destination region is IncorrectDestinationRegion 400.",
        "The code is documented without its cause",
    ),
    a(
        "same-region-copy",
        "A plain copy within a region is refused with IncorrectDestinationRegion 400; an encrypting one \
         is allowed.",
        "The user guide allows it for changing the encryption",
    ),
    a(
        "size-limit-of-copies",
        "An image whose system disk exceeds 500 GiB is SizeExceed.Image 403.",
        "The limit is the console's; the code is the API's",
    ),
    a(
        "cancel-finished-copy",
        "Cancelling a finished copy is IncorrectImageStatus 403.",
        "Three codes are documented for it",
    ),
    // Disks and snapshots.
    a(
        "dropped-with-instance",
        "CreateDisk with InstanceId drops key, tags, resource group and ClientToken; Encrypted stays and \
         means the \
        service key.",
        "Documented, but for what then becomes of Encrypted",
    ),
    a(
        "zone-and-instance",
        "CreateDisk with ZoneId and InstanceId is InvalidParameter.Conflict 400.",
        "That they exclude each other is documented",
    ),
    a(
        "default-disk-category",
        "CreateDisk without DiskCategory makes a disk of category cloud.",
        "Older pages",
    ),
    a(
        "disk-validation-codes",
        "Bad categories, levels and sizes are InvalidDiskCategory.NotSupported and \
         InvalidDiskSize.NotSupported 400, \
        a category that the zone does not sell Zone.NotOnSale 403, a size below the snapshot's \
         InvalidDiskSize.TooSmall 403.",
        "Zone.NotOnSale is documented, the others differ between pages",
    ),
    a(
        "encrypted-filter-false",
        "Encrypted=false in a listing filters nothing.",
        "false is the documented default",
    ),
    a(
        "deleting-what-is-gone",
        "Deleting a missing disk, image or snapshot is NotFound 404.",
        "Pages say both: ignored, and 404",
    ),
    a(
        "times-of-attachment",
        "AttachedTime and DetachedTime are those of the last attachment, each kept when the other changes.",
        "The fields are in the SDK's models without a word on when they change",
    ),
    a(
        "limits-on-what-runs-at-once",
        "So many snapshots in a region, and so many disks on their way to or from one instance, run at once as the settings \
         say, at first without a limit; one more is QuotaExceed.ConcurrentSnapshotQuota 403, \
         OperationConflict.DisksAttachingParallellyExceed 400 or DisksDetachingOnEcsExceeded 400.",
        "The codes are documented, neither the figures nor what is counted",
    ),
    a(
        "snapshots-per-disk-code",
        "The 257th manual snapshot of a disk is QuotaExceed.Snapshot 403.",
        "Limit and code are documented, not that they belong together",
    ),
    a("attach-across-zones", "Attaching across zones is ResourcesNotInSameZone 403.", "none"),
    a("resize-size-code", "A resize that does not grow is InvalidDiskSize.TooSmall 403.", "none"),
    a(
        "default-key-while-off",
        "Asking for the default key while default encryption is off is InvalidDefaultEncryption.NotFound \
         403.",
        "Documented for Modify, Reset and Disable",
    ),
    // Instances.
    a(
        "stop-needs-key",
        "StopInstance refuses when a key of the machine is unusable.",
        "The key errors are in its table; when they apply is not said",
    ),
    a("dry-run-checks-the-key", "A dry run of start, stop and reboot checks the key.", "none"),
    a(
        "batch-response-code",
        "In SuccessFirst batches a refused instance carries the error code as text in Code.",
        "Examples show numbers",
    ),
    a("instance-type-code", "An unknown instance type is InvalidInstanceType.ValueNotSupported 404.", "none"),
    a(
        "networks-are-not-checked",
        "Security groups are taken as given, and vSwitches unless the settings say which ones exist; then another \
         one is InvalidVSwitchId.NotFound 404.",
        "The code stands in the table of CreateInstance; the rest is a limit of the simulation",
    ),
    a(
        "stock-failure-removes-all",
        "An accepted instance for which there is no stock vanishes at the end of Pending, with all its disks.",
        "SystemFailure.Delete: the instance is released because its creation failed; when and with what is not \
         said",
    ),
    a(
        "data-disks-of-encrypted-images",
        "Data disks that come from an image are encrypted exactly as its snapshots are.",
        "Encrypted must be explicit for disks that the caller names",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Every id after a mark in the sources of the cloud.
    fn marks() -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cloud");
        let mut marks = BTreeSet::new();
        for entry in std::fs::read_dir(folder).expect("the sources are there") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(path).expect("a readable source");
            let found = text.lines().filter_map(|line| line.trim().strip_prefix("// assumption: "));
            marks.extend(found.map(str::to_string));
        }
        marks
    }

    #[test]
    fn every_assumption_is_marked_in_the_code_and_every_mark_is_listed() {
        let listed: BTreeSet<String> = assumptions().iter().map(|one| one.id.to_string()).collect();
        assert_eq!(listed.len(), assumptions().len(), "an id is listed twice");
        assert_eq!(listed, marks());
    }
}
