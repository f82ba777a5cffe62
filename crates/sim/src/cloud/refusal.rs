//! How the simulated cloud says no: one HTTP status, one code, one message.
//!
//! Deliberately does not know how a refusal is written on the wire: `http` does.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What every action answers: the body without `RequestId`, or a refusal.
pub type Answer = Result<Value, Refusal>;

/// A refusal as an Alibaba Cloud gateway or product states it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The HTTP status, 400 to 599.
    pub status: u16,
    /// The error code, for example `InvalidImageId.NotFound`.
    pub code: String,
    /// Human text. May carry secrets only in the one case that real gateways do it too
    /// (`SignatureDoesNotMatch`).
    pub message: String,
    /// `AccessDeniedDetail` of a denied call.
    pub access_denied_detail: Option<Value>,
    /// The value of `x-acs-retry-after`, in real milliseconds.
    pub retry_after_milliseconds: Option<u64>,
}

impl Refusal {
    /// A refusal with nothing but the three things that each has.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            code: code.into(),
            message: message.into(),
            access_denied_detail: None,
            retry_after_milliseconds: None,
        }
    }

    /// A required parameter is absent or empty.
    pub fn missing(name: &str) -> Refusal {
        // assumption: missing-parameter
        let text = format!(
            "The input parameter \"{name}\" that is mandatory for processing this request is not supplied."
        );
        Refusal::new(400, "MissingParameter", text)
    }

    /// A parameter that cannot be read or is out of its range.
    pub fn invalid(name: &str) -> Refusal {
        // assumption: invalid-parameter
        let text = format!("The specified parameter \"{name}\" is not valid.");
        Refusal::new(400, format!("InvalidParameter.{name}"), text)
    }

    /// A resource that does not exist, is in another region or belongs to somebody else.
    pub fn not_found(code: &str) -> Refusal {
        Refusal::new(404, code, "The specified resource does not exist.")
    }

    /// The reply to a successful dry run, which is an error by design.
    pub fn dry_run() -> Refusal {
        Refusal::new(400, "DryRunOperation", "Request validation has been passed with DryRun flag set.")
    }

    /// The body of the JSON error envelope.
    pub fn envelope(&self, request_id: &str, host: &str) -> Value {
        let mut body = json!({
            "RequestId": request_id,
            "HostId": host,
            "Code": self.code,
            "Message": self.message,
            "Recommend": format!("https://api.aliyun.com/troubleshoot?q={}", self.code),
        });
        if let Some(detail) = &self.access_denied_detail {
            body["AccessDeniedDetail"] = detail.clone();
        }
        body
    }
}
