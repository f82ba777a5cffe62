//! Typed calls to KMS.
//!
//! Only what the state of a key needs. Nothing here changes a key.

use super::emergency::Reading;
use super::endpoint::check_region;
use super::error::Error;
use super::gateway::Cloud;
use super::reply::{Fields, words};
use super::request::{Service, check_key, parameters};

words! {
    /// The states of a key.
    KeyState {
        /// Usable.
        Enabled = "Enabled",
        /// Switched off; can be switched on again.
        Disabled = "Disabled",
        /// Unusable, and deleted for good at the end of its window.
        PendingDeletion = "PendingDeletion",
        /// Without imported material; unusable until there is some.
        PendingImport = "PendingImport",
    }
}

/// A key as DescribeKey shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The id, also if an alias or an ARN was asked for.
    pub id: String,
    /// `acs:kms:<region>:<account>:key/<id>`; empty if the reply does not say.
    pub arn: String,
    /// The state.
    pub state: KeyState,
    /// For example `Aliyun_AES_256`; ECS accepts only this and `Aliyun_SM4`.
    pub spec: String,
    /// For example `ENCRYPT/DECRYPT`.
    pub usage: String,
    /// The account's id, or the name of the cloud service that made the key.
    pub creator: String,
    /// `Aliyun_KMS` or `EXTERNAL`.
    pub origin: String,
    /// When it is deleted, if that is pending; UTC, as the cloud writes it.
    pub deletion_date: Option<String>,
    /// True for a key that a cloud service made for itself: it cannot be disabled or deleted.
    pub is_service_key: bool,
}

impl Cloud {
    /// The key that an id, an ARN or an alias names; none if there is no such key or alias.
    ///
    /// The answer may be up to five seconds old, and is shared by all who ask for the same text.
    pub async fn key(&self, region: &str, key_id_or_alias: &str) -> Result<Option<Key>, Error> {
        const ACTION: &str = "DescribeKey";
        check_region(Service::Kms, ACTION, region)?;
        check_key(ACTION, key_id_or_alias)?;
        let read = async { self.read_key(region, key_id_or_alias).await.map(|reading| reading.found) };
        self.keys().get((region.to_owned(), key_id_or_alias.to_owned()), read).await
    }

    /// Asks the cloud; the caller has checked the parameters.
    pub(super) async fn read_key(&self, region: &str, named: &str) -> Result<Reading<Option<Key>>, Error> {
        const ACTION: &str = "DescribeKey";
        match self.call(Service::Kms, region, ACTION, parameters([("KeyId", named)])).await {
            Ok(reply) => {
                let fields = Fields::new(&reply.value, Service::Kms, ACTION);
                let found = Some(Key::read(fields.inner("KeyMetadata")?, named)?);
                Ok(Reading { found, request_id: reply.request_id })
            }
            Err(error) if is_absence(&error) => {
                Ok(Reading { found: None, request_id: error.request_id.map(String::from) })
            }
            Err(error) => Err(error),
        }
    }
}

impl Key {
    fn read(fields: Fields, asked: &str) -> Result<Key, Error> {
        let creator = fields.text("Creator").unwrap_or_default();
        let made_by_service = !creator.is_empty() && !creator.bytes().all(|byte| byte.is_ascii_digit());
        Ok(Key {
            id: fields.required("KeyId")?,
            arn: fields.text("Arn").unwrap_or_default(),
            state: KeyState::from_word(&fields.text("KeyState").unwrap_or_default()),
            spec: fields.text("KeySpec").unwrap_or_default(),
            usage: fields.text("KeyUsage").unwrap_or_default(),
            origin: fields.text("Origin").unwrap_or_default(),
            deletion_date: fields.text("DeleteDate"),
            is_service_key: made_by_service || asked.starts_with(SERVICE_ALIASES),
            creator,
        })
    }
}

/// The alias of ECS's service key.
pub const SERVICE_KEY: &str = "alias/acs/ecs";
/// Aliases under this prefix are reserved for the keys of cloud services.
const SERVICE_ALIASES: &str = "alias/acs/";

fn is_absence(error: &Error) -> bool {
    matches!(error.code.as_str(), "Forbidden.KeyNotFound" | "Forbidden.AliasNotFound")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_key_is_known_by_its_creator_or_its_alias() {
        let read = |creator: &str, asked: &str| {
            let value = json!({"KeyId": "key-1", "KeyState": "Enabled", "Creator": creator});
            Key::read(Fields::new(&value, Service::Kms, "DescribeKey"), asked).expect("a key").is_service_key
        };
        assert!(!read("123456789012", "key-1"));
        assert!(!read("", "key-1"));
        assert!(read("ECS", "key-1"));
        assert!(read("123456789012", "alias/acs/ecs"));
    }

    #[test]
    fn the_state_of_a_key_is_kept_even_if_unknown() {
        let value = json!({"KeyId": "key-1", "KeyState": "Napping", "DeleteDate": "2026-02-01T00:00:00Z"});
        let key = Key::read(Fields::new(&value, Service::Kms, "DescribeKey"), "key-1").expect("a key");
        assert_eq!(key.state, KeyState::Unknown("Napping".to_owned()));
        assert_eq!(key.deletion_date.as_deref(), Some("2026-02-01T00:00:00Z"));
    }
}
