//! `ecskms restore`: gives back exactly what `ecskms revoke` recorded.

use std::path::Path;
use std::process::ExitCode;

use super::record::{Lock, Others, Record};
use super::{Means, account, can_confirm, check, confirm, may_have_acted, neighbours, unusable, wrong};
use crate::kinds::KeyRevocation;
use crate::kinds::key_revocation::api::{DesiredState, KeyRevocationSpec, Method};

/// Arguments of `ecskms restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the key.
    #[arg(value_name = "KEYID")]
    key_id: String,
    #[command(flatten)]
    means: Means,
    /// Gives the key back although another record of it in the same folder is not restored.
    #[arg(long, env = "ECSKMS_IGNORE_OTHER_RECORDS")]
    ignore_other_records: bool,
}

/// Restores.
pub async fn run(args: Args) -> ExitCode {
    match go(&args).await {
        Ok(code) | Err(code) => code,
    }
}

async fn go(args: &Args) -> Result<ExitCode, ExitCode> {
    let path = args.means.record_path(&args.key_id);
    let what = format!("the record {} cannot be used", path.display());
    let cloud = args.means.cloud()?;
    // To the very end: whoever revokes with the same record would take the key away again.
    let _lock = Lock::take(&path).map_err(|trouble| unusable(&path, &trouble))?;
    let found = Record::read(&path).map_err(|trouble| unusable(&path, &trouble))?;
    let Some(mut object) = found else {
        return Err(wrong(
            &what,
            &"there is no such file, and without it nobody knows what stood before",
            "Name the file of the revocation with --record. If it is lost, enable the key by hand, if it was enabled before.",
        ));
    };
    fits(&object, args)
        .map_err(|why| wrong(&what, &why, "Name the file of this revocation with --record."))?;
    let mut asked = object.clone();
    asked.spec.reason.clone_from(&args.means.reason);
    check(&asked)?;
    let others = if args.ignore_other_records { Others::Ignored } else { Others::Count };
    if others == Others::Count {
        refuse_the_unread(&path, &object)?;
    }
    can_confirm(args.means.yes)?;
    let account = account::ask(&cloud, object.spec.method).await?;
    account::bind(&mut object, account.as_deref(), &path)?;
    confirm(args.means.yes, &announcement(&object.spec, account.as_deref()), &args.key_id)?;
    begin(&mut object, &args.means.reason);
    let record =
        Record::begin(object, Some(path.clone()), others).map_err(|trouble| unusable(&path, &trouble))?;
    args.means.drive(record, cloud).await
}

/// What is about to happen, and to how much.
fn announcement(spec: &KeyRevocationSpec, account: Option<&str>) -> String {
    let (key, account) = (&spec.key_id, account::words(account));
    match spec.method {
        Method::DisableKey => {
            format!("Key {key} in {} {account} is about to be given back to ECS.", spec.region)
        }
        Method::DetachEcsRole => {
            format!(
                "EVERY customer key in EVERY region {account}, not only {key}, is about to be given back to ECS."
            )
        }
    }
}

/// What cannot be read may be the record of somebody who still holds the key.
fn refuse_the_unread(path: &Path, object: &KeyRevocation) -> Result<(), ExitCode> {
    let unread = neighbours::look(path, object).unread;
    match unread.first() {
        None => Ok(()),
        Some(unread) => Err(wrong(
            "there may be another record of the same key",
            unread,
            "Nothing was done. Make it readable, move it away, or give --ignore-other-records.",
        )),
    }
}

/// Asks for the end of the revocation, once.
fn begin(object: &mut KeyRevocation, reason: &str) {
    if object.spec.desired_state == DesiredState::Restored {
        return;
    }
    object.spec.desired_state = DesiredState::Restored;
    // Never the first generation: that of an object that asked for nothing else, so that it has nothing to undo.
    let before = object.metadata.generation.unwrap_or_default().max(1);
    object.metadata.generation = Some(before + 1);
    let reasons = object.metadata.annotations.get_or_insert_default();
    reasons.insert("ecskms.dev/restore-reason".to_owned(), reason.to_owned());
}

fn fits(object: &KeyRevocation, args: &Args) -> Result<(), String> {
    let spec = &object.spec;
    if spec.key_id != args.key_id || spec.region != args.means.region {
        return Err(format!("it is the record of key {} in {}", spec.key_id, spec.region));
    }
    // Where the end is declared, the cut does not wait for its record.
    match may_have_acted(object) {
        true => Ok(()),
        false => Err("it records a revocation that never began, so there is nothing to undo".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::key_revocation::goes_back_to;
    use serde_json::json;

    fn record(restore_to: &str) -> KeyRevocation {
        let spec = json!({
            "region": "cn-hangzhou", "keyId": "key-a", "desiredState": "Revoked", "restoreTo": restore_to,
            "reason": "a leaked credential", "requestedBy": "alice",
        });
        let mut object = KeyRevocation::new("one", serde_json::from_value(spec).expect("a spec"));
        object.metadata.generation = Some(1);
        object
    }

    #[test]
    fn a_declared_end_is_enough_to_go_back_to() {
        let (mut declared, recorded) = (record("Enabled"), record("Recorded"));
        assert!(may_have_acted(&declared) && !may_have_acted(&recorded));
        for generation in [Some(1), None] {
            declared.metadata.generation = generation;
            declared.spec.desired_state = DesiredState::Revoked;
            begin(&mut declared, "all is well again");
            assert_eq!(declared.metadata.generation, Some(2));
            assert_eq!(goes_back_to(&declared).map(|(word, _)| word).as_deref(), Some("Enabled"));
        }
        begin(&mut declared, "once more");
        assert_eq!(declared.metadata.generation, Some(2), "the same request is not a new one");
    }
}
