//! The table from error code to class.
//!
//! Sources: the error tables of the API pages, `errors.go` of the Terraform provider and the throttling code
//! of the CSI driver, each as of 2025/26. One code can come with several HTTP statuses, depending on the
//! action, so the status is no part of the table. What is not listed here is unknown, and an unknown code
//! never counts as definite.

use super::error::{Class, local};

/// The class of a server's code; none if the code is unknown.
pub(super) fn classify(code: &str) -> Option<Class> {
    let exact = EXACT.iter().find(|(_, codes)| codes.contains(&code)).map(|(class, _)| *class);
    // Exact codes come first: `IncorrectDiskStatus.NeverAttached` is not a busy disk.
    exact.or_else(|| key_class(code)).or_else(|| family_class(code))
}

/// The class of one of this client's own codes.
pub(super) fn classify_local(code: &str) -> Class {
    match code {
        local::INVALID_ID | local::INVALID_REGION | local::INVALID_ENDPOINT | local::INVALID_PARAMETERS => {
            Class::Invalid
        }
        local::THROTTLED => Class::Throttled,
        local::CREDENTIALS_MISSING
        | local::CREDENTIALS_INCOMPLETE
        | local::CREDENTIALS_MALFORMED
        | local::CREDENTIALS_REFUSED => Class::Credentials,
        local::CREDENTIALS_UNAVAILABLE
        | local::NOT_CONNECTED
        | local::CONNECTION
        | local::TIMEOUT
        | local::INTERRUPTED => Class::Transient,
        _ => Class::Defect,
    }
}

/// True for the codes of this client that say that nothing was sent.
pub(super) fn precedes_sending(code: &str) -> bool {
    matches!(code, local::NOT_CONNECTED | local::CREDENTIALS_UNAVAILABLE)
        || matches!(classify_local(code), Class::Invalid | Class::Throttled | Class::Credentials)
}

/// Codes about the key carry prefixes that differ between actions (`InvalidParameter.KMSKeyId.…`,
/// `InvalidKMSKeyId.…`, `InvalidOperation.…`), so that only their ends can be listed.
fn key_class(code: &str) -> Option<Class> {
    const ENDS: [&str; 10] = [
        "CMKNotEnabled",
        "CMKUnauthorized",
        "KMSUnauthorized",
        "KMSKeyId.NotFound",
        "KMSKeyIdNotFound",
        "KMSKeyId.NotSymmetric",
        "KmsNotEnabled",
        "KmsNotEnable",
        "KMSServiceNotOpen",
        "DataEncryptedKeyCreateFailed",
    ];
    ENDS.iter().any(|end| code.ends_with(end)).then_some(Class::KeyUnusable)
}

/// Families whose every member means the same: the name itself, or the name and a dot.
fn family_class(code: &str) -> Option<Class> {
    const FAMILIES: [(&str, Class); 9] = [
        ("Throttling", Class::Throttled),
        ("QuotaExceed", Class::Quota),
        ("QuotaExceeded", Class::Quota),
        ("LimitExceeded", Class::Quota),
        ("IncorrectDiskStatus", Class::Conflict),
        ("IncorrectInstanceStatus", Class::Conflict),
        ("IncorrectImageStatus", Class::Conflict),
        ("InvalidSecurityToken", Class::Credentials),
        ("AuthenticationFail", Class::Credentials),
    ];
    let member =
        |family: &str| code.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    // Throttling codes without the dot were seen too; both official clients match by prefix alone.
    let throttled = code.starts_with("Throttling").then_some(Class::Throttled);
    throttled.or_else(|| FAMILIES.iter().find(|(family, _)| member(family)).map(|(_, class)| *class))
}

/// Exact codes per class.
const EXACT: [(Class, &[&str]); 13] = [
    (Class::Throttled, &["Rejected.Throttling"]),
    (Class::Transient, TRANSIENT),
    (Class::InProgress, &["LastTokenProcessing", "IdempotentProcessing", "LastOrderProcessing"]),
    (
        Class::TokenMismatch,
        &["IdempotentParameterMismatch", "IdempotenceParamNotMatch", "InvalidIdempotenceParameter.Mismatch"],
    ),
    (
        Class::NameTaken,
        &[
            "InvalidImageName.Duplicated",
            "AliasAlreadyExists",
            "EntityAlreadyExists.Role",
            "EntityAlreadyExists.Role.Policy",
        ],
    ),
    (Class::Conflict, CONFLICT),
    (Class::Denied, DENIED),
    (Class::Credentials, CREDENTIALS),
    (Class::NotFound, NOT_FOUND),
    (Class::Quota, QUOTA),
    (Class::KeyUnusable, KEY_UNUSABLE),
    (Class::Arrears, ARREARS),
    (Class::Invalid, INVALID),
];

/// `SignatureNonceUsed` means that a middleman repeated the request: the first copy may have been executed.
const TRANSIENT: &[&str] = &[
    "ServiceUnavailable",
    "ServiceUnavailable.RegionMaintaining",
    "ServiceUnavailableTemporary",
    "LimitedOperation.ServiceUnavailable",
    "InternalError",
    "InternalFailure",
    "Mayi.InternalError",
    "UnknownError",
    "SignatureNonceUsed",
];

const CONFLICT: &[&str] = &[
    "OperationConflict",
    "OperationConflict.DisksAttachingParallellyExceed",
    "InvalidOperation.Conflict",
    "Operation.Conflict",
    "OperationDenied.ImageCopying",
    "OperationDenied.ImageCopyConflict",
    "InvalidSnapshotId.NotReady",
    "InvalidOperation.DiskDetachingFromThisEcs",
    "InvalidOperation.UnfinishedCrossRegionCopy",
    "InvalidOperation.UnfinishedEncryptedSnapshotCopy",
    "DisksDetachingOnEcsExceeded",
    "DiskCreatingSnapshot",
    // Of the family of quotas by its name, but it ends with the snapshots that are being made.
    "QuotaExceed.ConcurrentSnapshotQuota",
    "DiskStillAttached",
    "InvalidDisk.InUse",
    "ImageUsingByInstance",
    "ImageUseShared",
    "SnapshotCreatedImage",
    "SnapshotCreatedDisk",
    "InstanceNotReady",
    "DependencyViolation",
    "DependencyViolation.RouteEntry",
    "DeleteConflict.Role.Policy",
    "Forbidden.DKMSInstanceStateInvalid",
];

const DENIED: &[&str] = &[
    "Forbidden.RAM",
    "Forbidden",
    "NoPermission",
    "Forbidden.NoPermission",
    "Forbidden.Unauthorized",
    "AuthenticationFail.NoPermission",
    "AssumeRoleError",
];

const CREDENTIALS: &[&str] = &[
    "InvalidAccessKeyId",
    "InvalidAccessKeyId.NotFound",
    "InvalidAccessKeyId.Inactive",
    "Forbidden.AccessKeyDisabled",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "InvalidTimeStamp.Expired",
    "IllegalTimestamp",
];

const NOT_FOUND: &[&str] = &[
    "InvalidImageId.NotFound",
    "InvalidDiskId.NotFound",
    "InvalidSnapshotId.NotFound",
    "InvalidInstanceId.NotFound",
    "InvalidDisk.AlreadyDetached",
    "InvalidDefaultEncryption.NotFound",
    "Forbidden.KeyNotFound",
    "Forbidden.AliasNotFound",
    "Forbidden.ResourceNotFound",
    "EntityNotExist.Role",
    "EntityNotExist.Policy",
    "EntityNotExist.Role.Policy",
];

const QUOTA: &[&str] =
    &["OperationDenied.NoStock", "Zone.NotOnSale", "Rejected.LimitExceeded", "InstanceDiskLimitExceeded"];

const KEY_UNUSABLE: &[&str] = &[
    "OperationDenied.KmsServiceUnauthorized",
    "Forbidden.KmsServiceNotEnabled",
    "Rejected.Disabled",
    "Rejected.PendingDeletion",
    "Rejected.PendingImport",
    "Rejected.StateModifiedFailed",
];

const ARREARS: &[&str] = &[
    "Account.Arrearage",
    "InvalidAccountStatus.NotEnoughBalance",
    "InvalidAccountStatus.SnapshotServiceUnavailable",
    "Forbidden.InDebt",
    "Forbidden.InDebtOverdue",
    "InsufficientBalance",
    "InstanceExpired",
    "InstanceExpiredOrInArrears",
    "DiskInArrears",
];

const INVALID: &[&str] = &[
    "MissingParameter",
    "InvalidParameter",
    "InvalidParameter.Encrypted",
    "InvalidParameter.EncryptedIllegal",
    "InvalidParameter.EncryptedNotSupported",
    "InvalidParameter.TooManyInstanceIds",
    "InvalidParameter.RoleArn",
    "InvalidParameter.RoleSessionName",
    "InvalidParameter.DurationSeconds",
    "InvalidParameter.PolicyGrammar",
    "InvalidParameter.PolicySize",
    "InvalidParam.EncryptedMismatch",
    "InvalidEncrypted.NotMatchKmsKeyId",
    "InvalidEncrypted.NotMatchSnapshot",
    "InvalidEncrypted.NotMatchDiskDefaultEncryption",
    "InvalidEncrypted.NotSupportDecrypt",
    "EncryptedOption.Conflict",
    "NotSupportSnapshotEncrypted.DiskCategory",
    "OperationDeined.EncryptedSnapshot",
    "OperationDeined.FullImage",
    "OperationDenied.EncryptSnapshotAcrossRegion",
    "OperationDenied.SameRegionOnly",
    "OperationDenied.CommunityImage",
    "OperationDenied.NonCompliantDestinationRegion",
    "RegionNotSupportCopy",
    "IncorrectDestinationRegion",
    "InvalidRegion.NotSupport",
    "InvalidRegionId.NotFound",
    "InvalidRegionId.NotSupportedEncryptedSnapshotCopy",
    "Abs.InvalidAction.RegionNotSupport",
    "InvalidZoneId.NotFound",
    "InvalidDiskCategory.NotSupported",
    "InvalidDiskCategory.ValueNotSupported",
    "InvalidDiskSize.NotSupported",
    "InvalidImageName.Malformed",
    "InvalidDiskName.Malformed",
    "InvalidVSwitchId.NotFound",
    "IncorrectVSwitchStatus",
    "InvalidInstanceType.ValueNotSupported",
    "InvalidParameter.Mismatch",
    "InvalidParameter.Conflict",
    "InvalidNetworkType.Mismatch",
    "InvalidDiskCategory.Mismatch",
    "InvalidDiskSize.TooSmall",
    "InvalidInstanceName.Malformed",
    "InvalidDataDiskSize.ValueNotSupported",
    "InvalidDataDiskCategory.ValueNotSupported",
    "InvalidSystemDiskCategory.ValueNotSupported",
    "CategoryNotSupported",
    "InstanceDiskNumLimitExceed",
    "UserNotInTheWhiteList",
    "SizeExceed.Image",
    "InvalidOperation.VhdImageUnsupported",
    "InvalidOperation.NotSupportCopyInSameRegion",
    "InvalidOperation.DeletionProtection",
    "ImageCreatedNotFromCopy",
    "CancelNotSupported",
    "InvalidDiskIds.Malformed",
    "InvalidSnapshotIds.Malformed",
    "NumberExceed.ResourceIds",
    "InvalidClientToken.Malformed",
    "InvalidClientToken.ValueNotSupported",
    "InvalidDiskId.OperationNotSupported",
    "InvalidInstance.ImageCategory",
    "IncorrectDiskStatus.NeverAttached",
    "DiskNotPortable",
    "DiskError",
    "InstanceLockedForSecurity",
    "Unsupported.Alias",
    "MalformedPolicyDocument",
    "DryRunOperation",
    "DRYRUN.SUCCESS",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code of the API reference with the class that its text asks for, written independently of the
    /// table above.
    const REFERENCE: &str = include_str!("../../tests/vectors/error-classes.txt");

    fn class_named(name: &str) -> Class {
        let all = [
            Class::Transient,
            Class::Throttled,
            Class::Denied,
            Class::Credentials,
            Class::Conflict,
            Class::InProgress,
            Class::TokenMismatch,
            Class::NameTaken,
            Class::NotFound,
            Class::Quota,
            Class::KeyUnusable,
            Class::Arrears,
            Class::Invalid,
            Class::Defect,
        ];
        *all.iter().find(|class| class.name() == name).unwrap_or_else(|| panic!("no class is called {name}"))
    }

    #[test]
    fn every_code_of_the_reference_has_its_class() {
        let mut seen = 0;
        for line in REFERENCE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (code, class) = line.split_once(' ').expect("code and class");
            assert_eq!(classify(code), Some(class_named(class)), "{code}");
            seen += 1;
        }
        assert!(seen >= 150, "only {seen} codes were compared");
    }

    #[test]
    fn no_code_stands_in_two_classes() {
        let mut codes: Vec<&str> = EXACT.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
        let listed = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), listed);
    }

    #[test]
    fn families_do_not_swallow_their_neighbours() {
        assert_eq!(classify("IncorrectDiskStatus.Transferring"), Some(Class::Conflict));
        assert_eq!(classify("IncorrectDiskStatus.NeverAttached"), Some(Class::Invalid));
        assert_eq!(classify("IncorrectDiskStatusX"), None);
        assert_eq!(classify("ThrottlingX"), Some(Class::Throttled));
        assert_eq!(classify("InvalidVSwitchId.Elsewhere"), None);
        assert_eq!(classify("Forbidden.NeverSeen"), None);
        assert_eq!(classify(""), None);
    }
}
