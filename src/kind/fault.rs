//! What can go wrong while looking or acting, classified by who must act. Waiting is never a fault.

use std::fmt;
use std::time::Duration;

use crate::alibaba;
use crate::alibaba::error::local;
use crate::decision::Reason;

/// A look or an act that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Who must act, and so how soon to try again.
    pub class: FaultClass,
    /// The reason to show.
    pub reason: Reason,
    /// What happened, and the next step. Safe to show: no secrets, no control characters.
    pub message: String,
    /// The cloud's or the API server's word for it.
    pub code: String,
    /// The cloud's request id.
    pub request_id: Option<String>,
    /// How long the other side asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// Who must act after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultClass {
    /// Nobody; try again with back-off.
    Transient,
    /// Nobody; try again in the next window.
    Throttled,
    /// A human: permission, credentials or money.
    Denied,
    /// Somebody else was faster, or the resource is busy; read again.
    Conflict,
    /// The object or resource is gone.
    Gone,
    /// The cloud refused the request itself.
    Refused,
    /// Something that should be impossible.
    Defect,
}

impl FaultClass {
    /// The word in status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultClass::Transient => "Transient",
            FaultClass::Throttled => "Throttled",
            FaultClass::Denied => "Denied",
            FaultClass::Conflict => "Conflict",
            FaultClass::Gone => "Gone",
            FaultClass::Refused => "Refused",
            FaultClass::Defect => "Defect",
        }
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Fault {
    /// Somebody else was faster, or a right has passed.
    pub fn conflict(message: &str) -> Fault {
        Fault::new(FaultClass::Conflict, Reason::CloudUnavailable, "Conflict", message)
    }

    /// Something that should be impossible.
    pub fn defect(code: &str, message: impl Into<String>) -> Fault {
        Fault::new(FaultClass::Defect, Reason::InternalError, code, message)
    }

    /// True if the same call may succeed in a moment.
    pub fn is_passing(&self) -> bool {
        let by_itself =
            matches!(self.class, FaultClass::Transient | FaultClass::Throttled | FaultClass::Conflict);
        by_itself && !is_too_much(&self.code)
    }

    fn new(class: FaultClass, reason: Reason, code: &str, message: impl Into<String>) -> Fault {
        Fault {
            class,
            reason,
            message: message.into(),
            code: code.to_owned(),
            request_id: None,
            retry_after: None,
        }
    }
}

impl From<alibaba::Error> for Fault {
    fn from(error: alibaba::Error) -> Fault {
        use alibaba::Class;
        let (class, reason, advice) = match error.class {
            Class::Transient | Class::InProgress => {
                (FaultClass::Transient, Reason::CloudUnavailable, "It is tried again.")
            }
            Class::Throttled => {
                (FaultClass::Throttled, Reason::Throttled, "It is tried again in the next window.")
            }
            Class::Denied => (FaultClass::Denied, Reason::AccessDenied, ""),
            Class::Credentials => (
                FaultClass::Denied,
                Reason::CredentialsInvalid,
                "Check the operator's access key or role; see README, Credentials.",
            ),
            Class::Conflict if is_in_use(&error.code) => {
                (FaultClass::Refused, Reason::InUse, in_use_advice(&error.code))
            }
            Class::Conflict | Class::TokenMismatch => {
                (FaultClass::Conflict, Reason::DependencyNotReady, "The resource is busy; it is tried again.")
            }
            Class::NameTaken => (
                FaultClass::Refused,
                Reason::RequestRefused,
                "Choose another name in a new object, or remove the resource that has it.",
            ),
            Class::NotFound => {
                (FaultClass::Refused, Reason::SourceNotFound, "Check the ids and the region in spec.")
            }
            Class::Quota if is_stock(&error.code) => {
                (FaultClass::Refused, Reason::NoStock, "Choose another zone or category, or wait for stock.")
            }
            Class::Quota => (
                FaultClass::Refused,
                Reason::QuotaExceeded,
                "Raise the quota in Quota Center or free resources.",
            ),
            Class::KeyUnusable => key_trouble(&error.code),
            Class::Arrears => (FaultClass::Denied, Reason::Arrears, "Settle the account's bill."),
            Class::Invalid => (FaultClass::Refused, Reason::RequestRefused, "Correct the object's spec."),
            Class::Defect if is_too_much(&error.code) => (
                FaultClass::Transient,
                Reason::CloudUnavailable,
                "There is more than the operator can read, and trying again makes it no less.",
            ),
            Class::Defect => (
                FaultClass::Transient,
                Reason::CloudUnavailable,
                "The answer was not understood; it is tried again.",
            ),
        };
        let advice = match &error.ram_action {
            Some(action) if class == FaultClass::Denied && reason == Reason::AccessDenied => {
                format!("{ALLOW}{action} for the operator's identity.")
            }
            _ => advice.to_owned(),
        };
        Fault {
            class,
            reason,
            message: format!("{} {advice}", sentence(error.to_string())).trim_end().to_owned(),
            code: error.code.clone(),
            request_id: error.request_id.as_deref().map(str::to_owned),
            retry_after: error.retry_after,
        }
    }
}

/// How the advice after a denial begins; the RAM action follows.
const ALLOW: &str = "Allow the RAM action ";

/// The RAM action that a message asks for.
pub fn denied_action(message: &str) -> Option<&str> {
    message.split_once(ALLOW)?.1.split([' ', ',', ';']).next().filter(|action| action.contains(':'))
}

/// A list or a reply beyond what this client reads: the next one is no shorter.
fn is_too_much(code: &str) -> bool {
    [local::TOO_MANY_PAGES, local::REPLY_TOO_LARGE].contains(&code)
}

/// The text with a full stop, so that the next step does not run into it.
fn sentence(text: String) -> String {
    if text.ends_with(['.', '!', '?']) { text } else { text + "." }
}

/// What keeps ECS from using the key, by the end of the code: its beginning differs between actions.
fn key_trouble(code: &str) -> (FaultClass, Reason, &'static str) {
    let ends = |ends: &[&str]| ends.iter().any(|end| code.ends_with(end));
    let (reason, advice) = match () {
        () if ends(&["KMSUnauthorized", "CMKUnauthorized", "KmsServiceUnauthorized"]) => (
            Reason::EcsRoleMissing,
            "Check the role AliyunECSDiskEncryptDefaultRole, its trust in ecs.aliyuncs.com and its policy \
             AliyunECSDiskEncryptRolePolicy; granted a moment ago, it may still be on its way.",
        ),
        () if ends(&["KmsNotEnabled", "KmsNotEnable", "KMSServiceNotOpen", "KmsServiceNotEnabled"]) => {
            (Reason::KmsNotActivated, "Activate KMS in the account.")
        }
        () if ends(&["KMSKeyId.NotFound", "KMSKeyIdNotFound"]) => {
            (Reason::KeyNotFound, "Check spec.key; keys and ECS resources must share a region.")
        }
        () if ends(&["NotSymmetric"]) => {
            (Reason::KeySpecUnsupported, "Choose a symmetric key (Aliyun_AES_256 or Aliyun_SM4).")
        }
        () if ends(&["PendingDeletion"]) => {
            (Reason::KeyPendingDeletion, "Cancel the deletion in KMS before its date.")
        }
        () if ends(&["PendingImport"]) => (Reason::KeyPendingImport, "Import its key material in KMS."),
        () => (Reason::KeyDisabled, "Check the key's state and ECS's role."),
    };
    (FaultClass::Refused, reason, advice)
}

/// Others use it, which ends only when somebody ends it: nothing that a quick repetition could outlast.
fn is_in_use(code: &str) -> bool {
    matches!(code, "ImageUsingByInstance" | "ImageUseShared" | "SnapshotCreatedImage" | "SnapshotCreatedDisk")
}

fn in_use_advice(code: &str) -> &'static str {
    match code {
        "ImageUsingByInstance" => {
            "Release the instances that were made of the image, or set spec.deletionPolicy to Retain to keep it."
        }
        "ImageUseShared" => {
            "Stop sharing the image with other accounts, or set spec.deletionPolicy to Retain to keep it."
        }
        "SnapshotCreatedImage" => "Delete the image that was made of the snapshot first.",
        _ => "Delete the disks that were made of the snapshot first.",
    }
}

fn is_stock(code: &str) -> bool {
    code.contains("NoStock")
        || code.contains("NotOnSale")
        || code.contains("OutOfStock")
        || code.contains("SoldOut")
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Fault {
        match &error {
            kube::Error::Api(status) if status.code == 409 => {
                Fault::conflict("the object changed meanwhile; reading it again")
            }
            kube::Error::Api(status) if status.code == 404 => {
                Fault::new(FaultClass::Gone, Reason::Deleting, "NotFound", "the object is gone")
            }
            kube::Error::Api(status) if status.code == 403 => Fault::new(
                FaultClass::Denied,
                Reason::AccessDenied,
                "Forbidden",
                format!("The Kubernetes API refused: {}. Check the operator's ClusterRole.", status.message),
            ),
            kube::Error::Api(status) if status.code == 422 || status.code == 400 => Fault::new(
                FaultClass::Defect,
                Reason::InternalError,
                "Invalid",
                format!(
                    "The Kubernetes API rejected a write: {}. Are the CRDs of this version installed?",
                    status.message
                ),
            ),
            kube::Error::Api(status) => Fault::new(
                FaultClass::Transient,
                Reason::CloudUnavailable,
                "KubernetesApi",
                format!("The Kubernetes API answered {}: {}", status.code, status.message),
            ),
            other => Fault::new(
                FaultClass::Transient,
                Reason::CloudUnavailable,
                "KubernetesApi",
                format!("The Kubernetes API did not answer: {other}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::reason::Mover;

    #[test]
    fn what_keeps_ecs_from_a_key_is_called_by_its_name() {
        for (code, reason) in [
            ("InvalidParameter.KMSKeyId.KMSUnauthorized", Reason::EcsRoleMissing),
            ("InvalidOperation.CMKUnauthorized", Reason::EcsRoleMissing),
            ("OperationDenied.KmsServiceUnauthorized", Reason::EcsRoleMissing),
            ("Forbidden.KmsServiceNotEnabled", Reason::KmsNotActivated),
            ("InvalidOperation.KMSServiceNotOpen", Reason::KmsNotActivated),
            ("InvalidParameter.Encrypted.KmsNotEnable", Reason::KmsNotActivated),
            ("InvalidParameter.KMSKeyId.NotFound", Reason::KeyNotFound),
            ("InvalidKMSKeyId.NotSymmetric", Reason::KeySpecUnsupported),
            ("Rejected.PendingDeletion", Reason::KeyPendingDeletion),
            ("InvalidParameter.KMSKeyId.CMKNotEnabled", Reason::KeyDisabled),
            ("Rejected.Disabled", Reason::KeyDisabled),
        ] {
            let (class, found, advice) = key_trouble(code);
            assert_eq!((class, found), (FaultClass::Refused, reason), "{code}");
            assert!(advice.ends_with('.') && reason.mover() == Mover::Outside, "{code}");
        }
    }

    #[test]
    fn the_action_of_a_denial_is_found_again_in_its_message() {
        let fault = Fault::from(alibaba::Error {
            service: Some(alibaba::Service::Ecs),
            action: "CreateDisk",
            code: "Forbidden.RAM".to_owned(),
            http_status: Some(403),
            message: "no".into(),
            request_id: None,
            class: alibaba::Class::Denied,
            retry_after: None,
            ram_action: Some("ecs:CreateDisk".to_owned()),
        });
        assert_eq!(denied_action(&fault.message), Some("ecs:CreateDisk"), "{}", fault.message);
        assert_eq!(denied_action("Disk d-1 exists."), None);
    }

    #[test]
    fn what_is_too_long_today_is_not_shorter_in_a_moment() {
        let fault = |code| {
            Fault::from(alibaba::Error::local(alibaba::Service::Ecs, "DescribeDisks", code, "the list"))
        };
        for code in [local::TOO_MANY_PAGES, local::REPLY_TOO_LARGE] {
            let fault = fault(code);
            assert!(!fault.is_passing() && !fault.message.contains("is tried again"), "{}", fault.message);
        }
        assert!(fault(local::TIMEOUT).is_passing() && fault(local::REPLY_NOT_UNDERSTOOD).is_passing());
    }

    #[test]
    fn what_others_use_is_told_to_whoever_must_act_and_not_repeated_in_seconds() {
        for code in ["ImageUsingByInstance", "ImageUseShared", "SnapshotCreatedImage", "SnapshotCreatedDisk"]
        {
            assert!(is_in_use(code) && in_use_advice(code).ends_with('.'), "{code}");
        }
        assert!(!is_in_use("OperationDenied.ImageCopying"), "a copy ends by itself");
        assert_eq!(Reason::InUse.mover(), Mover::Outside);
    }
}
