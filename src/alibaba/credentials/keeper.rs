//! Holds what a source lent and renews it long before its end: once for the account, not once for each call.
//!
//! Whoever finds the time come renews; everybody else goes on with what is held, or waits where nothing valid
//! is. Nothing happens in the background. A renewal that fails while the old credentials are valid is only
//! logged.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::environment::{access_key, chain, instance_role, nothing, variable};
use super::{Credentials, Session, Source, lent, metadata, refusal, rrsa};
use crate::alibaba::error::{Class, Error, local};
use crate::alibaba::gateway::Cloud;
use crate::alibaba::ledger::locked;

/// How long before the end credentials are renewed, at most; a quarter of their life if that is less.
const EARLY_MAX: SignedDuration = SignedDuration::from_mins(15);
/// How long a failed renewal is left alone while the old credentials are valid.
const REST_WHILE_VALID: Duration = Duration::from_secs(30);
/// How long a failure is answered without another try where there are no valid credentials.
const REST_WITHOUT: Duration = Duration::from_secs(5);
/// After how many silences in a row of a metadata service that nobody named this is taken for no ECS instance at all. One is no
/// proof: a slow moment must not end a command that cuts a key.
const SILENCES_MAX: u32 = 3;
/// How soon after a forced renewal another one is no help.
const FORCED_AGAIN: Duration = Duration::from_secs(60);

/// The credentials of one account.
pub(crate) struct Keeper {
    source: Source,
    /// Who takes on the role, if the source is a role to be taken on.
    base: Option<Box<Keeper>>,
    held: Mutex<Option<Held>>,
    /// Of the metadata service, in a row.
    silences: AtomicU32,
    attempts: tokio::sync::Mutex<Attempts>,
}

#[derive(Clone)]
struct Held {
    credentials: Credentials,
    /// None: they last.
    life: Option<Life>,
}

#[derive(Clone, Copy)]
struct Life {
    renew_at: Timestamp,
    expires: Timestamp,
}

/// Guarded by the lock that makes renewals single.
#[derive(Default)]
struct Attempts {
    failure: Option<(Instant, Error)>,
    forced: Option<Instant>,
}

impl Attempts {
    fn failed_within(&self, rest: Duration) -> Option<&Error> {
        self.failure.as_ref().filter(|(at, _)| at.elapsed() < rest).map(|(_, error)| error)
    }
}

impl Keeper {
    pub(crate) fn new(source: Source) -> Keeper {
        let base = match &source {
            Source::Assumed { base, .. } => Some(Box::new(Keeper::new((**base).clone()))),
            _ => None,
        };
        Keeper {
            source,
            base,
            held: Mutex::default(),
            silences: AtomicU32::default(),
            attempts: tokio::sync::Mutex::default(),
        }
    }

    /// Credentials that are valid now.
    ///
    /// Errors are definite, since nothing was sent to a product: class Credentials, or Transient while the
    /// source is merely out of reach and never handed out any.
    pub(crate) async fn get(&self, cloud: &Cloud) -> Result<Credentials, Error> {
        let now = cloud.now();
        let held = locked(&self.held).clone();
        match held {
            Some(held) if held.life.is_none_or(|life| now < life.renew_at) => Ok(held.credentials),
            Some(Held { credentials, life: Some(life) }) if now < life.expires => {
                // Somebody else renews, or failed to a moment ago: what is held is still good.
                let Ok(mut attempts) = self.attempts.try_lock() else { return Ok(credentials) };
                let renewed = locked(&self.held).clone();
                if let Some(held) = renewed.filter(|held| held.life.is_none_or(|life| now < life.renew_at)) {
                    return Ok(held.credentials);
                }
                if attempts.failed_within(REST_WHILE_VALID).is_some() {
                    return Ok(credentials);
                }
                Ok(self.renew_within(cloud, &mut attempts).await.unwrap_or_else(|error| {
                    tracing::warn!(valid_until = %life.expires, "credentials could not be renewed yet: {error}");
                    credentials
                }))
            }
            _ => {
                let began = Instant::now();
                let mut attempts = self.attempts.lock().await;
                if let Some(fresh) = self.unexpired(cloud.now()) {
                    return Ok(fresh);
                }
                // What cuts a key rests from nothing; it shares a failure that it waited for.
                let rest = if cloud.is_urgent() { began.elapsed() } else { REST_WITHOUT };
                match attempts.failed_within(rest) {
                    Some(error) => Err(error.clone()),
                    None => self.renew_within(cloud, &mut attempts).await,
                }
            }
        }
    }

    /// Other credentials than the `refused` ones, which the cloud calls expired before their time. None if there
    /// are none: they last, or a renewal was forced a moment ago and did not help.
    pub(crate) async fn replace(
        &self,
        cloud: &Cloud,
        refused: &Credentials,
    ) -> Result<Option<Credentials>, Error> {
        let mut attempts = self.attempts.lock().await;
        let held = locked(&self.held).clone();
        match held {
            Some(Held { life: None, .. }) => return Ok(None),
            Some(held) if held.credentials.access_key_id != refused.access_key_id => {
                return Ok(Some(held.credentials));
            }
            _ => {}
        }
        if attempts.forced.is_some_and(|at| at.elapsed() < FORCED_AGAIN) {
            return Ok(None);
        }
        attempts.forced = Some(Instant::now());
        *locked(&self.held) = None;
        self.renew_within(cloud, &mut attempts).await.map(Some)
    }

    /// When what is held ends; None: it lasts, or there is nothing.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        Some(locked(&self.held).as_ref()?.life?.expires)
    }

    fn unexpired(&self, now: Timestamp) -> Option<Credentials> {
        let held = locked(&self.held).clone()?;
        held.life.is_none_or(|life| now < life.expires).then_some(held.credentials)
    }

    async fn renew_within(&self, cloud: &Cloud, attempts: &mut Attempts) -> Result<Credentials, Error> {
        let result = match self.fetch(cloud).await {
            Ok(held) => {
                let credentials = held.credentials.clone();
                *locked(&self.held) = Some(held);
                self.silences.store(0, Ordering::Relaxed);
                Ok(credentials)
            }
            Err(error) => Err(self.explain(error)),
        };
        attempts.failure = result.as_ref().err().map(|error| (Instant::now(), error.clone()));
        result
    }

    /// Boxed, because STS is asked through the same calls that ask for credentials.
    fn fetch<'a>(&'a self, cloud: &'a Cloud) -> BoxFuture<'a, Result<Held, Error>> {
        Box::pin(async move {
            let found;
            let source = match &self.source {
                Source::Chain => {
                    found = chain(variable)?;
                    &found
                }
                Source::EcsRamRole { role_name, token_required } => {
                    found = instance_role(variable, role_name.clone(), *token_required)?;
                    &found
                }
                other => other,
            };
            let chained = matches!(self.source, Source::Chain);
            let session = match source {
                Source::Static(credentials) => {
                    return Ok(Held { credentials: credentials.clone(), life: None });
                }
                Source::Chain | Source::Environment => {
                    return Ok(Held { credentials: access_key(variable)?, life: None });
                }
                Source::Rrsa(rrsa) => rrsa::fetch(cloud, rrsa).await?,
                Source::Uri(uri) => lent::from_uri(cloud.transport(), uri).await?,
                Source::EcsRamRole { role_name, token_required } => {
                    let endpoint = cloud.metadata_endpoint();
                    let lent =
                        metadata::fetch(cloud.transport(), endpoint, role_name.as_deref(), *token_required)
                            .await;
                    // Nobody asked for an instance role: where there is none, nothing is configured.
                    let is_guess = chained && role_name.is_none() && !token_required;
                    match lent {
                        Err(error) if is_guess && self.is_no_instance(&error) => {
                            return Err(nothing("this is no ECS instance with a role"));
                        }
                        other => other?,
                    }
                }
                Source::Assumed { role, .. } => {
                    let Some(base) = &self.base else {
                        return Err(refusal(local::CREDENTIALS_MISSING, "nobody can take on the role"));
                    };
                    let lender = base.get(cloud).await?;
                    match cloud.assume_role(&lender, role).await {
                        Err(error) if error.is_stale_token() => match base.replace(cloud, &lender).await? {
                            Some(other) => cloud.assume_role(&other, role).await?,
                            None => return Err(error),
                        },
                        other => other?,
                    }
                }
            };
            held(session, cloud.now(), source.name())
        })
    }

    /// Whether the failure of the metadata service says that there is none here.
    fn is_no_instance(&self, error: &Error) -> bool {
        match error.code.as_str() {
            local::NOT_CONNECTED => true,
            local::CREDENTIALS_UNAVAILABLE => {
                self.silences.fetch_add(1, Ordering::Relaxed) + 1 >= SILENCES_MAX
            }
            _ => false,
        }
    }

    /// A failure as one of credentials, whatever class its cause has: read as the failure of the call itself, a
    /// role that STS does not find would pass for a resource that is gone.
    fn explain(&self, cause: Error) -> Error {
        if cause.service.is_none() && cause.class == Class::Credentials {
            return cause;
        }
        let expired = locked(&self.held).as_ref().and_then(|held| held.life).map(|life| life.expires);
        let passing = matches!(cause.class, Class::Transient | Class::Throttled | Class::Defect);
        let code = match passing && expired.is_none() {
            true => local::CREDENTIALS_UNAVAILABLE,
            false => local::CREDENTIALS_REFUSED,
        };
        let what = match expired {
            Some(at) => format!("the credentials, valid until {at}, were not renewed"),
            None => "no credentials".to_owned(),
        };
        let text = match cause.service {
            Some(_) => format!("{what}: {} answered {}: {}", cause.action, cause.code, cause.message),
            None => format!("{what}: {}", cause.message),
        };
        let error = refusal(code, &text);
        Error { request_id: cause.request_id, retry_after: cause.retry_after, ..error }
    }
}

fn held(session: Session, now: Timestamp, who: &str) -> Result<Held, Error> {
    let left = session.expires.duration_since(now);
    if !left.is_positive() {
        let text = format!(
            "{who} handed out credentials that expired at {}; is this machine's clock right?",
            session.expires
        );
        return Err(refusal(local::CREDENTIALS_REFUSED, &text));
    }
    let early = EARLY_MAX.min(left / 4);
    let renew_at = session.expires.checked_sub(early).unwrap_or(now);
    Ok(Held { credentials: session.credentials, life: Some(Life { renew_at, expires: session.expires }) })
}
