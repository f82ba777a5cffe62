//! One line: a check, how it ended, what was seen, and the fix.

use serde::Serialize;

use crate::alibaba::Error;
use crate::alibaba::error::local;
use crate::cli::output;
use crate::decision::Reason;
use crate::kind::{Fault, FaultClass};

/// How a check ended; the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Left out on purpose, or not needed.
    Skipped,
    /// As it should be.
    Ok,
    /// Could not be checked.
    Unknown,
    /// Not as it should be.
    Failed,
}

impl Verdict {
    /// The word in every form of output.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Failed => "failed",
            Verdict::Unknown => "unknown",
            Verdict::Skipped => "skipped",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// What was checked.
    pub check: String,
    /// How it ended.
    pub result: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The cloud's id of the request that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// How the lines stand together.
pub fn worst(lines: &[Line]) -> Verdict {
    lines.iter().map(|line| line.result).max().unwrap_or(Verdict::Skipped)
}

impl Line {
    /// As it should be.
    pub fn ok(check: impl Into<String>, seen: impl Into<String>) -> Line {
        Line::new(check, Verdict::Ok, seen, None)
    }

    /// Not as it should be.
    pub fn failed(check: impl Into<String>, seen: impl Into<String>, fix: impl Into<String>) -> Line {
        Line::new(check, Verdict::Failed, seen, Some(fix.into()))
    }

    /// Could not be checked.
    pub fn unknown(check: impl Into<String>, seen: impl Into<String>, fix: impl Into<String>) -> Line {
        Line::new(check, Verdict::Unknown, seen, Some(fix.into()))
    }

    /// Left out on purpose.
    pub fn skipped(check: impl Into<String>, seen: impl Into<String>) -> Line {
        Line::new(check, Verdict::Skipped, seen, None)
    }

    /// Left out, and what would bring it.
    pub fn with_fix(self, fix: impl Into<String>) -> Line {
        Line { fix: Some(fix.into()), ..self }
    }

    /// With commands that reach the cluster that was asked.
    pub fn in_context(self, context: Option<&str>) -> Line {
        let Some(context) = context.map(output::word) else { return self };
        let fix = self.fix.map(|fix| {
            fix.replace("kubectl ", &format!("kubectl --context {context} "))
                .replace("helm upgrade", &format!("helm upgrade --kube-context {context}"))
        });
        Line { fix, ..self }
    }

    /// What a call to the cloud ended in. A refusal is a failure; no answer, or one that says to wait, leaves it open.
    pub fn of_error(check: impl Into<String>, error: &Error) -> Line {
        let fault = Fault::from(error.clone());
        let seen = format!("{}: {}", error.code, error.message);
        let (verdict, fix) = match (fault.reason, fault.class) {
            (Reason::AccessDenied, _) => {
                let action = error.ram_action.as_deref().unwrap_or("of this call");
                let fix = format!(
                    "Allow the RAM action {action}: attach deploy/ram/policy.json to this identity (README, Permissions)."
                );
                (Verdict::Failed, fix)
            }
            _ if is_clock(error) => (Verdict::Failed, CLOCK.to_owned()),
            (Reason::CredentialsInvalid, _) => (Verdict::Failed, CREDENTIALS.to_owned()),
            (Reason::KmsNotActivated, _) => {
                (Verdict::Failed, "Activate KMS in the console of Key Management Service.".to_owned())
            }
            (Reason::Arrears, _) => (Verdict::Failed, "Settle the account's bill.".to_owned()),
            (Reason::Throttled, _) => {
                (Verdict::Unknown, "The cloud asked for fewer calls: run it again in a minute.".to_owned())
            }
            _ if error.code == local::NOT_CONNECTED => (Verdict::Failed, CONNECTION.to_owned()),
            (_, FaultClass::Refused) => {
                (Verdict::Failed, "Check --region; the code is in Alibaba Cloud's API reference.".to_owned())
            }
            _ => (Verdict::Unknown, format!("Run it again. If it stays so: {CONNECTION}")),
        };
        let request_id = error.request_id.as_deref().map(str::to_owned);
        Line { request_id, ..Line::new(check, verdict, seen, Some(fix)) }
    }

    fn new(check: impl Into<String>, result: Verdict, seen: impl Into<String>, fix: Option<String>) -> Line {
        Line { check: check.into(), result, seen: seen.into(), fix, request_id: None }
    }
}

/// True if the cloud refused the date of a signature.
pub fn is_clock(error: &Error) -> bool {
    ["InvalidTimeStamp.Expired", "IllegalTimestamp"].contains(&error.code.as_str())
}

/// How to set the clock.
pub const CLOCK: &str = "Set this machine's clock, for example with timedatectl set-ntp true.";
/// Where to read how to sign in.
pub const CREDENTIALS: &str = "README, Credentials, says which variables sign in, and in which order.";
const CONNECTION: &str = "Check --region, --vpc, --cloud-endpoint, proxy and firewall; within a VPC, --vpc reaches ECS, KMS and STS \
                          without the internet, but not RAM.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fix_reaches_the_cluster_that_was_asked() {
        let fix = "ecskms crds | kubectl apply -f -, or helm upgrade; kubectl get pods";
        let line = |context| Line::failed("a", "b", fix).in_context(context).fix;
        assert_eq!(line(None).as_deref(), Some(fix));
        let told = "ecskms crds | kubectl --context 'a b' apply -f -, or helm upgrade --kube-context 'a b'; \
                    kubectl --context 'a b' get pods";
        assert_eq!(line(Some("a b")).as_deref(), Some(told));
    }

    #[test]
    fn what_was_not_answered_is_not_known_and_what_was_refused_has_failed() {
        let error = |code| Error::local(None, "DescribeDisks", code, "text");
        for (code, verdict) in [
            (local::TIMEOUT, Verdict::Unknown),
            (local::CONNECTION, Verdict::Unknown),
            (local::REPLY_NOT_UNDERSTOOD, Verdict::Unknown),
            (local::THROTTLED, Verdict::Unknown),
            (local::NOT_CONNECTED, Verdict::Failed),
            (local::CREDENTIALS_MISSING, Verdict::Failed),
        ] {
            let line = Line::of_error("ecs:DescribeDisks", &error(code));
            assert_eq!(line.result, verdict, "{code}");
            assert!(line.fix.is_some_and(|fix| fix.ends_with('.')), "{code}");
        }
    }
}
