//! What went wrong in one call, classified once, and whether the request can have had an effect.
//!
//! An [`Error`] is safe to show: its text was bounded, cleaned of characters that deceive a reader, and never
//! carries what a server echoed of a request that it could not verify. This file neither waits nor retries;
//! the table of codes stands in `codes.rs`.

use std::fmt;
use std::time::Duration;

use super::codes;
use super::request::Service;

/// What kind of failure it is, hence what may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The cloud or the network failed; the same request may succeed soon.
    Transient,
    /// Too many calls; wait for `Error::retry_after`.
    Throttled,
    /// The identity lacks a permission, named in `Error::ram_action`.
    Denied,
    /// The credentials, the signature or the clock are not accepted.
    Credentials,
    /// The resource is busy or in a state that excludes the action for now; look again.
    Conflict,
    /// An earlier request with the same ClientToken is still being worked on; repeat the same request.
    InProgress,
    /// The ClientToken was used before with other parameters; look what that request made.
    TokenMismatch,
    /// The name is in use.
    NameTaken,
    /// The resource that the request names does not exist, or is not visible to this identity.
    NotFound,
    /// A quota or the stock is used up; may end by itself, slowly.
    Quota,
    /// The key, its state, its tag, the role of ECS or KMS itself prevents the use of the key.
    KeyUnusable,
    /// The account owes money, or has not opened a product.
    Arrears,
    /// Refused for good until the request, or what it refers to, is changed.
    Invalid,
    /// The reply was not understood.
    Defect,
}

impl Class {
    /// A short stable name for metric labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            Class::Transient => "transient",
            Class::Throttled => "throttled",
            Class::Denied => "denied",
            Class::Credentials => "credentials",
            Class::Conflict => "conflict",
            Class::InProgress => "in_progress",
            Class::TokenMismatch => "token_mismatch",
            Class::NameTaken => "name_taken",
            Class::NotFound => "not_found",
            Class::Quota => "quota",
            Class::KeyUnusable => "key_unusable",
            Class::Arrears => "arrears",
            Class::Invalid => "invalid",
            Class::Defect => "defect",
        }
    }

    /// True for the classes whose refusals come before any effect.
    fn precedes_effects(self) -> bool {
        match self {
            Class::Throttled
            | Class::Denied
            | Class::Credentials
            | Class::NotFound
            | Class::Quota
            | Class::KeyUnusable
            | Class::Arrears
            | Class::Conflict
            | Class::NameTaken
            | Class::Invalid => true,
            Class::Transient | Class::InProgress | Class::TokenMismatch | Class::Defect => false,
        }
    }
}

/// Codes of failures that this client finds itself. No server can send them: a reply's code with
/// this prefix is not taken over.
pub mod local {
    /// An id, a key or an alias has characters that no id has. Nothing was sent.
    pub const INVALID_ID: &str = "Local.InvalidId";
    /// The region is no region id. Nothing was sent.
    pub const INVALID_REGION: &str = "Local.InvalidRegion";
    /// An endpoint override is not usable. Nothing was sent.
    pub const INVALID_ENDPOINT: &str = "Local.InvalidEndpoint";
    /// The parameters contradict the call. Nothing was sent.
    pub const INVALID_PARAMETERS: &str = "Local.InvalidParameters";
    /// The action was throttled a moment ago; sending it now would be refused. Nothing was sent.
    pub const THROTTLED: &str = "Local.Throttled";
    /// No credentials are configured. Nothing was sent.
    pub const CREDENTIALS_MISSING: &str = "Local.CredentialsMissing";
    /// Only a part of the credentials is configured. Nothing was sent.
    pub const CREDENTIALS_INCOMPLETE: &str = "Local.CredentialsIncomplete";
    /// The credentials contain characters that no credentials have. Nothing was sent.
    pub const CREDENTIALS_MALFORMED: &str = "Local.CredentialsMalformed";
    /// Whoever hands out the credentials refused to, or what was held has expired. Nothing was sent.
    pub const CREDENTIALS_REFUSED: &str = "Local.CredentialsRefused";
    /// Whoever hands out the credentials is out of reach. Nothing was sent.
    pub const CREDENTIALS_UNAVAILABLE: &str = "Local.CredentialsUnavailable";
    /// No connection came about. Nothing was sent.
    pub const NOT_CONNECTED: &str = "Local.NotConnected";
    /// The connection broke before a complete reply came.
    pub const CONNECTION: &str = "Local.Connection";
    /// No complete reply in time.
    pub const TIMEOUT: &str = "Local.Timeout";
    /// A call that several callers shared was given up.
    pub const INTERRUPTED: &str = "Local.Interrupted";
    /// The reply was a redirect; it is not followed, since it would carry a signed request elsewhere.
    pub const REDIRECT: &str = "Local.Redirect";
    /// The reply exceeds the limit.
    pub const REPLY_TOO_LARGE: &str = "Local.ReplyTooLarge";
    /// The reply is not the JSON that was expected.
    pub const REPLY_NOT_UNDERSTOOD: &str = "Local.ReplyNotUnderstood";
    /// A list has more pages than the limit, so it cannot be known completely.
    pub const TOO_MANY_PAGES: &str = "Local.TooManyPages";
    /// The HTTP client could not be built.
    pub const CLIENT: &str = "Local.Client";
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The product; none for failures of set-up.
    pub service: Option<Service>,
    /// For example `CopyImage`.
    pub action: &'static str,
    /// The cloud's code, or one of [`local`]; letters, digits, `.`, `_`, `-`, at most 128 of them.
    pub code: String,
    /// The status of the reply; none if there was no reply.
    pub http_status: Option<u16>,
    /// One line of text that is safe to show, at most 300 characters.
    pub message: Box<str>,
    /// The cloud's id of the request, for its support.
    pub request_id: Option<Box<str>>,
    /// What kind of failure it is.
    pub class: Class,
    /// How long to wait at least, if the cloud said so or it is known.
    pub retry_after: Option<Duration>,
    /// For denials, the permission that is missing, for example `ecs:CopyImage`.
    pub ram_action: Option<String>,
}

/// A server's refusal as it was read, before it is trusted.
#[derive(Default)]
pub(crate) struct Refusal {
    pub(crate) http_status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) request_id: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) ram_action: Option<String>,
}

impl Error {
    /// True only if the request certainly had no effect: it was refused before any, or never sent.
    ///
    /// Everything else is ambiguous: 5xx, timeouts, resets, replies that are not understood, and every code
    /// that is not in the table, even with a 4xx status.
    pub fn definite(&self) -> bool {
        match self.http_status {
            None => codes::precedes_sending(&self.code),
            Some(status) => {
                let known = codes::classify(&self.code).is_some();
                (400..500).contains(&status) && known && self.class.precedes_effects()
            }
        }
    }

    /// A failure found by this client; `code` is one of [`local`].
    pub(crate) fn local(
        service: impl Into<Option<Service>>,
        action: &'static str,
        code: &'static str,
        message: &str,
    ) -> Error {
        Error {
            service: service.into(),
            action,
            code: code.to_owned(),
            http_status: None,
            message: safe_text(message).into(),
            request_id: None,
            class: codes::classify_local(code),
            retry_after: None,
            ram_action: None,
        }
    }

    /// A refusal by the server, made safe and classified: by code, and by status only if the code is unknown.
    pub(crate) fn from_refusal(service: Service, action: &'static str, refusal: Refusal) -> Error {
        let code = safe_code(&refusal.code);
        let class = codes::classify(&code).unwrap_or(match refusal.http_status {
            429 => Class::Throttled,
            500.. => Class::Transient,
            400..500 if code != UNREADABLE_CODE => Class::Invalid,
            _ => Class::Defect,
        });
        let ram_action = (class == Class::Denied).then(|| {
            let named = refusal.ram_action.filter(|named| is_ram_action(named));
            named.unwrap_or_else(|| format!("{}:{action}", service.name()))
        });
        Error {
            service: Some(service),
            action,
            http_status: Some(refusal.http_status),
            message: refusal_text(class, &code, &refusal.message).into(),
            code,
            request_id: refusal.request_id.filter(|id| is_request_id(id)).map(Into::into),
            class,
            retry_after: refusal.retry_after,
            ram_action,
        }
    }

    /// True if the cloud did not accept the security token: other credentials may help, these never will.
    pub(crate) fn is_stale_token(&self) -> bool {
        self.http_status.is_some() && self.code.starts_with("InvalidSecurityToken")
    }

    /// The same failure with what is known about the reply.
    pub(crate) fn with_reply(mut self, http_status: u16, request_id: Option<String>) -> Error {
        self.http_status = Some(http_status);
        self.request_id = request_id.filter(|id| is_request_id(id)).map(Into::into);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = self.service.map_or("client", Service::name);
        write!(formatter, "{service} {}: {}", self.action, self.code)?;
        if let Some(status) = self.http_status {
            write!(formatter, " ({status})")?;
        }
        write!(formatter, ": {}", self.message)?;
        match &self.request_id {
            Some(id) => write!(formatter, " [request {id}]"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The longest text that is kept of a message, in characters.
pub const MESSAGE_LENGTH_MAX: usize = 300;
const CODE_LENGTH_MAX: usize = 128;
const UNREADABLE_CODE: &str = "UnreadableCode";

/// One line without control, bidirectional and invisible characters, at most [`MESSAGE_LENGTH_MAX`]
/// characters.
pub(crate) fn safe_text(text: &str) -> String {
    let visible = |character: &char| {
        !matches!(
            character,
            '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}'
        )
    };
    // Cut first what could make the work long, then clean, then cut to length.
    let spaced = text.chars().take(MESSAGE_LENGTH_MAX * 4).filter(visible);
    let spaced: String =
        spaced.map(|character| if character.is_control() { ' ' } else { character }).collect();
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MESSAGE_LENGTH_MAX {
        return line;
    }
    line.chars().take(MESSAGE_LENGTH_MAX - 1).chain(['…']).collect()
}

/// The server's text unless it may repeat parts of the request: SignatureDoesNotMatch echoes the string to
/// sign, with parameter values and the security token in it, and gateways have wrapped that text into other
/// codes.
fn refusal_text(class: Class, code: &str, message: &str) -> String {
    const ECHOES: [&str; 5] =
        ["string to sign", "stringtosign", "acs3-hmac", "x-acs-security-token", "securitytoken"];
    let lower = message.to_ascii_lowercase();
    if class == Class::Credentials || ECHOES.iter().any(|echo| lower.contains(echo)) {
        return match code {
            "SignatureDoesNotMatch" => {
                "the signature was refused: the access key secret is probably wrong".to_owned()
            }
            "InvalidTimeStamp.Expired" | "IllegalTimestamp" => {
                "the date was refused: this machine's clock is probably wrong".to_owned()
            }
            _ if class == Class::Credentials => {
                "the cloud did not accept the request's identity; its text is withheld".to_owned()
            }
            _ => "the text is withheld, because it may repeat the request".to_owned(),
        };
    }
    match safe_text(message) {
        text if text.is_empty() => "no message".to_owned(),
        text => text,
    }
}

fn safe_code(code: &str) -> String {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let readable = !code.is_empty() && code.len() <= CODE_LENGTH_MAX && code.bytes().all(allowed);
    // The prefix of our own codes is not for servers, or one could make an ambiguous failure look unsent.
    if readable && !code.starts_with("Local.") { code.to_owned() } else { UNREADABLE_CODE.to_owned() }
}

fn is_request_id(id: &str) -> bool {
    const LENGTH_MAX: usize = 64;
    !id.is_empty()
        && id.len() <= LENGTH_MAX
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_ram_action(text: &str) -> bool {
    const LENGTH_MAX: usize = 80;
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= LENGTH_MAX
        && text.split_once(':').is_some_and(|(product, action)| word(product) && word(action))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(http_status: u16, code: &str, message: &str) -> Error {
        let refusal =
            Refusal { http_status, code: code.to_owned(), message: message.to_owned(), ..Refusal::default() };
        Error::from_refusal(Service::Ecs, "CopyImage", refusal)
    }

    #[test]
    fn only_known_refusals_before_effects_are_definite() {
        for code in [
            "Throttling.User",
            "Forbidden.RAM",
            "SignatureDoesNotMatch",
            "InvalidImageId.NotFound",
            "QuotaExceed.Image",
            "InvalidParameter.KMSKeyId.CMKNotEnabled",
            "Account.Arrearage",
            "SizeExceed.Image",
            "OperationConflict",
            "InvalidImageName.Duplicated",
        ] {
            assert!(refusal(400, code, "").definite(), "{code}");
            assert!(!refusal(503, code, "").definite(), "{code} with 503 is ambiguous");
        }
        for code in [
            "LastTokenProcessing",
            "IdempotentParameterMismatch",
            "InternalError",
            "SignatureNonceUsed",
            "NeverSeenBefore",
            "InvalidParameter.NeverSeen",
            "",
        ] {
            assert!(!refusal(403, code, "").definite(), "{code}");
        }
    }

    #[test]
    fn an_unknown_code_is_judged_by_its_status() {
        assert_eq!(refusal(404, "NeverSeenBefore", "").class, Class::Invalid);
        assert_eq!(refusal(429, "NeverSeenBefore", "").class, Class::Throttled);
        assert_eq!(refusal(502, "NeverSeenBefore", "").class, Class::Transient);
        assert_eq!(refusal(302, "NeverSeenBefore", "").class, Class::Defect);
        assert_eq!(refusal(400, "a code", "").class, Class::Defect);
    }

    #[test]
    fn a_server_cannot_pretend_that_nothing_was_sent() {
        let error = refusal(400, local::INVALID_ID, "");
        assert_eq!(error.code, UNREADABLE_CODE);
        assert!(!error.definite());
    }

    #[test]
    fn an_echoed_request_is_withheld_whatever_the_code() {
        let echo = "server string to sign is:ACS3-HMAC-SHA256 x-acs-security-token:SECRET";
        for code in
            ["SignatureDoesNotMatch", "InvalidSecurityToken.Expired", "InternalError", "NeverSeenBefore"]
        {
            let error = refusal(400, code, echo);
            assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
        }
    }

    #[test]
    fn messages_are_one_bounded_line_without_deceiving_characters() {
        assert_eq!(safe_text("a\r\n\tb\u{1b}[31m \u{202e}c\u{200b}d\u{e0041}"), "a b [31m cd");
        let exact = "x".repeat(MESSAGE_LENGTH_MAX);
        assert_eq!(safe_text(&exact), exact);
        let long = safe_text(&"订".repeat(MESSAGE_LENGTH_MAX + 1));
        assert_eq!(long.chars().count(), MESSAGE_LENGTH_MAX);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn denials_name_the_permission_and_distrust_strange_ones() {
        let denied = |ram_action: Option<&str>| {
            let refusal = Refusal {
                http_status: 403,
                code: "Forbidden.RAM".to_owned(),
                ram_action: ram_action.map(str::to_owned),
                request_id: Some("bad id\n".to_owned()),
                ..Refusal::default()
            };
            Error::from_refusal(Service::Ecs, "CopyImage", refusal)
        };
        assert_eq!(denied(None).ram_action.as_deref(), Some("ecs:CopyImage"));
        assert_eq!(denied(Some("kms:DescribeKey")).ram_action.as_deref(), Some("kms:DescribeKey"));
        assert_eq!(denied(Some("kms:\nx")).ram_action.as_deref(), Some("ecs:CopyImage"));
        assert_eq!(denied(None).request_id, None);
        assert_eq!(refusal(400, "SizeExceed.Image", "").ram_action, None);
    }

    #[test]
    fn display_has_the_parts_that_a_support_case_needs() {
        let error = Error::local(Service::Ecs, "CopyImage", local::TIMEOUT, "no reply in 30 s");
        assert_eq!(error.to_string(), "ecs CopyImage: Local.Timeout: no reply in 30 s");
        assert!(!error.definite());
        let with_reply = error.with_reply(504, Some("0A-1".to_owned()));
        assert!(with_reply.to_string().ends_with("(504): no reply in 30 s [request 0A-1]"));
    }
}
