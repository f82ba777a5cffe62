//! What the environment says: an access key, or which of the other ways is configured.
//!
//! The order is that of the official SDKs' default chain, without its files in home directories, and with the
//! credentials URI before the instance role: a URI is asked for by name, an instance role is only found.

use std::ffi::OsString;

use secrecy::{ExposeSecret, SecretString};

use super::{Credentials, Rrsa, Source, is_plain, refusal};
use crate::alibaba::error::{Error, local};

/// The environment variable with the access key id (names from the official SDKs' default chain).
pub const ACCESS_KEY_ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
/// The environment variable with the access key secret.
pub const ACCESS_KEY_SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
/// The environment variable with the token of temporary credentials.
pub const SECURITY_TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";
/// The environment variable with the address that hands out credentials.
pub const CREDENTIALS_URI: &str = "ALIBABA_CLOUD_CREDENTIALS_URI";
pub(super) const ROLE_ARN: &str = "ALIBABA_CLOUD_ROLE_ARN";
pub(super) const PROVIDER_ARN: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
pub(super) const TOKEN_FILE: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";
pub(super) const SESSION_NAME: &str = "ALIBABA_CLOUD_ROLE_SESSION_NAME";
const METADATA_ROLE: &str = "ALIBABA_CLOUD_ECS_METADATA";
const METADATA_DISABLED: &str = "ALIBABA_CLOUD_ECS_METADATA_DISABLED";
const METADATA_V1_DISABLED: &str = "ALIBABA_CLOUD_IMDSV1_DISABLED";

/// A variable of this process.
pub(super) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The first way that is configured.
pub(super) fn chain(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Source, Error> {
    let set = |name: &str| lookup(name).is_some_and(|value| !value.is_empty());
    if [ACCESS_KEY_ID, ACCESS_KEY_SECRET, SECURITY_TOKEN].into_iter().any(set) {
        return access_key(&lookup).map(Source::Static);
    }
    if [ROLE_ARN, PROVIDER_ARN, TOKEN_FILE].into_iter().any(set) {
        return rrsa(&lookup).map(Source::Rrsa);
    }
    if let Some(uri) = text(&lookup, CREDENTIALS_URI)? {
        return Ok(Source::Uri(uri));
    }
    if is_true(&lookup, METADATA_DISABLED)? {
        return Err(nothing("the instance's metadata service is switched off"));
    }
    instance_role(&lookup, None, false)
}

/// The instance's role as the variables tell it; a name that is given wins, and so does strictness. Whoever asks for this role
/// and no other way is told what forbids it: no other variable would help.
pub(super) fn instance_role(
    lookup: impl Fn(&str) -> Option<OsString>,
    role_name: Option<String>,
    token_required: bool,
) -> Result<Source, Error> {
    if is_true(&lookup, METADATA_DISABLED)? {
        let text = format!(
            "the role of the ECS instance cannot be used: {METADATA_DISABLED}=true switches the metadata service off for \
             the operator; sign in another way, or install the operator in the mode ecsRamRole"
        );
        return Err(refusal(local::CREDENTIALS_MISSING, &text));
    }
    let role_name = match role_name {
        Some(name) => Some(name),
        None => text(&lookup, METADATA_ROLE)?,
    };
    let token_required = token_required || is_true(&lookup, METADATA_V1_DISABLED)?;
    Ok(Source::EcsRamRole { role_name, token_required })
}

/// The failure to find any way.
pub(super) fn nothing(why: &str) -> Error {
    let text = format!(
        "no credentials: {why}, and neither {ACCESS_KEY_ID} and {ACCESS_KEY_SECRET}, nor the RRSA variables, nor \
         {CREDENTIALS_URI} are set"
    );
    refusal(local::CREDENTIALS_MISSING, &text)
}

fn rrsa(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Rrsa, Error> {
    let required = |name: &str| {
        let missing = || {
            let text = format!("RRSA is half set: {name} is missing");
            refusal(local::CREDENTIALS_INCOMPLETE, &text)
        };
        text(&lookup, name)?.ok_or_else(missing)
    };
    Ok(Rrsa {
        role_arn: required(ROLE_ARN)?,
        provider_arn: required(PROVIDER_ARN)?,
        token_file: Some(required(TOKEN_FILE)?.into()),
        session_name: text(&lookup, SESSION_NAME)?,
    })
}

/// An access key, with its token if there is one.
pub(super) fn access_key(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Credentials, Error> {
    let read = |name: &str| Ok(text(&lookup, name)?.map(SecretString::from));
    let incomplete = |missing: &str| {
        refusal(local::CREDENTIALS_INCOMPLETE, &format!("credentials are half set: {missing} is missing"))
    };
    match (read(ACCESS_KEY_ID)?, read(ACCESS_KEY_SECRET)?, read(SECURITY_TOKEN)?) {
        (Some(id), Some(secret), security_token) => {
            Ok(Credentials { access_key_id: id.expose_secret().to_owned(), secret, security_token })
        }
        (Some(_), None, _) => Err(incomplete(ACCESS_KEY_SECRET)),
        (None, Some(_), _) | (None, None, Some(_)) => Err(incomplete(ACCESS_KEY_ID)),
        (None, None, None) => {
            let text = format!("no credentials: set {ACCESS_KEY_ID} and {ACCESS_KEY_SECRET}");
            Err(refusal(local::CREDENTIALS_MISSING, &text))
        }
    }
}

/// A value that is set and not empty.
pub(super) fn text(lookup: impl Fn(&str) -> Option<OsString>, name: &str) -> Result<Option<String>, Error> {
    let Some(value) = lookup(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    match value.into_string() {
        Ok(text) if is_plain(&text) => Ok(Some(text)),
        _ => {
            let text = format!("{name} holds spaces, control characters or non-ASCII text");
            Err(refusal(local::CREDENTIALS_MALFORMED, &text))
        }
    }
}

fn is_true(lookup: impl Fn(&str) -> Option<OsString>, name: &str) -> Result<bool, Error> {
    Ok(text(lookup, name)?.is_some_and(|word| word.eq_ignore_ascii_case("true")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alibaba::Class;

    fn lookup<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.into())
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Credentials, Error> {
        access_key(lookup(pairs))
    }

    #[test]
    fn a_full_pair_is_taken_with_or_without_a_token() {
        let lasting = read(&[(ACCESS_KEY_ID, "id"), (ACCESS_KEY_SECRET, "s3cret")]).expect("complete");
        assert_eq!((lasting.access_key_id.as_str(), lasting.secret.expose_secret()), ("id", "s3cret"));
        assert!(lasting.security_token.is_none());
        let pairs = [(ACCESS_KEY_ID, "id"), (ACCESS_KEY_SECRET, "s3cret"), (SECURITY_TOKEN, "t0ken")];
        let temporary = read(&pairs).expect("complete");
        assert_eq!(temporary.security_token.expect("token").expose_secret(), "t0ken");
    }

    #[test]
    fn half_set_missing_and_malformed_variables_are_definite_errors() {
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[], local::CREDENTIALS_MISSING),
            (&[(ACCESS_KEY_ID, ""), (ACCESS_KEY_SECRET, "")], local::CREDENTIALS_MISSING),
            (&[(ACCESS_KEY_ID, "id")], local::CREDENTIALS_INCOMPLETE),
            (&[(ACCESS_KEY_ID, "id"), (SECURITY_TOKEN, "t")], local::CREDENTIALS_INCOMPLETE),
            (&[(ACCESS_KEY_SECRET, "s3cret")], local::CREDENTIALS_INCOMPLETE),
            (&[(SECURITY_TOKEN, "t0ken")], local::CREDENTIALS_INCOMPLETE),
            (&[(ACCESS_KEY_ID, "id"), (ACCESS_KEY_SECRET, "s3cret\n")], local::CREDENTIALS_MALFORMED),
        ];
        for (pairs, code) in cases {
            let error = read(pairs).expect_err(code);
            assert_eq!((error.code.as_str(), error.class), (code, Class::Credentials));
            assert!(error.definite());
            assert!(!format!("{error} {error:?}").contains("s3cret"));
        }
    }

    #[test]
    fn the_chain_takes_the_first_way_that_is_configured() {
        let all = [
            (ACCESS_KEY_ID, "id"),
            (ACCESS_KEY_SECRET, "secret"),
            (ROLE_ARN, "acs:ram::1:role/r"),
            (PROVIDER_ARN, "acs:ram::1:oidc-provider/p"),
            (TOKEN_FILE, "/token"),
            (CREDENTIALS_URI, "http://127.0.0.1:1/"),
            (METADATA_ROLE, "node"),
        ];
        assert!(matches!(chain(lookup(&all)), Ok(Source::Static(_))));
        let Ok(Source::Rrsa(rrsa)) = chain(lookup(&all[2..])) else { panic!("RRSA comes second") };
        assert_eq!((rrsa.role_arn.as_str(), rrsa.session_name), ("acs:ram::1:role/r", None));
        assert!(matches!(chain(lookup(&all[5..])), Ok(Source::Uri(uri)) if uri == "http://127.0.0.1:1/"));
        let Ok(Source::EcsRamRole { role_name, token_required }) = chain(lookup(&all[6..])) else {
            panic!("the instance comes last")
        };
        assert_eq!((role_name.as_deref(), token_required), (Some("node"), false));
        let strict = [(METADATA_V1_DISABLED, "True")];
        assert!(matches!(chain(lookup(&strict)), Ok(Source::EcsRamRole { token_required: true, .. })));
    }

    #[test]
    fn what_is_half_set_or_switched_off_is_an_error_and_no_reason_to_look_further() {
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
        let cases: [Case; 7] = [
            (
                &[(ACCESS_KEY_ID, "id"), (CREDENTIALS_URI, "http://a")],
                local::CREDENTIALS_INCOMPLETE,
                ACCESS_KEY_SECRET,
            ),
            (&[(ROLE_ARN, "a"), (CREDENTIALS_URI, "http://a")], local::CREDENTIALS_INCOMPLETE, PROVIDER_ARN),
            (&[(ROLE_ARN, "a"), (PROVIDER_ARN, "b")], local::CREDENTIALS_INCOMPLETE, TOKEN_FILE),
            (&[(PROVIDER_ARN, "b"), (TOKEN_FILE, "c")], local::CREDENTIALS_INCOMPLETE, ROLE_ARN),
            (
                &[(ROLE_ARN, "a b"), (PROVIDER_ARN, "b"), (TOKEN_FILE, "c")],
                local::CREDENTIALS_MALFORMED,
                ROLE_ARN,
            ),
            (&[(CREDENTIALS_URI, "http://a b")], local::CREDENTIALS_MALFORMED, CREDENTIALS_URI),
            (&[(METADATA_DISABLED, "true")], local::CREDENTIALS_MISSING, ACCESS_KEY_ID),
        ];
        for (pairs, code, named) in cases {
            let error = chain(lookup(pairs)).expect_err(code);
            assert_eq!((error.code.as_str(), error.class), (code, Class::Credentials), "{pairs:?}");
            assert!(error.definite() && error.message.contains(named), "{error}");
        }
    }

    #[test]
    fn whoever_asks_for_the_instance_role_alone_is_told_what_forbids_it() {
        let error =
            instance_role(lookup(&[(METADATA_DISABLED, "true")]), None, false).expect_err("it is off");
        assert_eq!((error.code.as_str(), error.class), (local::CREDENTIALS_MISSING, Class::Credentials));
        assert!(error.message.contains("ALIBABA_CLOUD_ECS_METADATA_DISABLED=true"), "{error}");
        assert!(!error.message.contains(ACCESS_KEY_ID), "{error}");
    }
}
