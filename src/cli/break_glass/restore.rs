//! `ecskms restore`: gives back exactly what `ecskms revoke` recorded.

use std::process::ExitCode;

use super::record::Record;
use super::{HELD_BACK, Means, confirm};
use crate::cli::output;
use crate::kinds::KeyRevocation;
use crate::kinds::key_revocation::api::DesiredState;

/// Arguments of `ecskms restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the key.
    #[arg(value_name = "KEYID")]
    key_id: String,
    #[command(flatten)]
    means: Means,
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
    let held = |why: &dyn std::fmt::Display, next: &str| {
        let _ = output::fail(&what, why, next);
        ExitCode::from(HELD_BACK)
    };
    let found = Record::read(&path).map_err(|trouble| held(&trouble, "Name another file with --record."))?;
    let Some(mut object) = found else {
        return Err(held(
            &"there is no such file, and without it nobody knows what stood before",
            "Name the file of the revocation with --record. If it is lost, enable the key by hand, if it was enabled before.",
        ));
    };
    check(&object, args).map_err(|why| held(&why, "Name the file of this revocation with --record."))?;
    confirm(args.means.yes, &format!("Key {} is about to be given back to ECS.", args.key_id), &args.key_id)?;
    if object.spec.desired_state != DesiredState::Restored {
        object.spec.desired_state = DesiredState::Restored;
        object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
        let reasons = object.metadata.annotations.get_or_insert_default();
        reasons.insert("ecskms.dev/restore-reason".to_owned(), args.means.reason.clone());
    }
    let record = Record::begin(object, Some(path.clone()))
        .map_err(|trouble| output::fail(&what, &trouble, "Nothing was done. The file must be writable."))?;
    args.means.drive(record).await
}

fn check(object: &KeyRevocation, args: &Args) -> Result<(), String> {
    let spec = &object.spec;
    if spec.key_id != args.key_id || spec.region != args.means.region {
        return Err(format!("it is the record of key {} in {}", spec.key_id, spec.region));
    }
    match object.status.as_ref().is_some_and(|status| status.prior_state.is_some()) {
        true => Ok(()),
        false => Err("it records a revocation that never began, so there is nothing to undo".to_owned()),
    }
}
