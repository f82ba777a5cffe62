//! A cloud that outlives its process: both accounts in one file, written after every call that may have changed them.
//!
//! Deliberately not kept: role sessions, planned faults, the record of requests and used nonces, which belong to one run.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::clock::Clock;
use super::idempotence::Tokens;
use super::names::Names;
use super::verify::header;
use super::world::{Events, World};
use super::{Cloud, Inner, Options};

/// Everything of one account.
#[derive(Serialize, Deserialize)]
struct Account {
    /// What `/_sim/state` shows.
    world: World,
    tokens: Tokens,
    names: Names,
    events: Events,
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    first: Account,
    second: Account,
}

impl Cloud {
    /// A cloud that goes on where the one that was kept in `file` has ended, and begins as [`Cloud::new`] does where there is no such
    /// file. Its time never runs backwards: it goes on from now, or from when the file was written if that is later.
    ///
    /// Errors: the file can be neither read nor understood, or cannot be written.
    pub fn kept(options: Options, file: &Path) -> io::Result<Cloud> {
        let cloud = Cloud::new(options);
        {
            let mut inner = cloud.lock();
            match std::fs::read(file) {
                Ok(bytes) => inner.resume(serde_json::from_slice(&bytes)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            inner.file = Some(file.to_owned());
            inner.save()?;
        }
        Ok(cloud)
    }
}

impl Inner {
    fn resume(&mut self, kept: Kept) {
        self.world = kept.first.alive();
        self.second = kept.second.alive();
        self.clock = Clock::not_before(self.clock.scale(), self.world.now);
        self.advance();
    }

    /// Writes both accounts, if they are kept. The file is replaced as a whole, so that a crash leaves the old one or the new one.
    fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let kept = Kept { first: Account::of(&self.world), second: Account::of(&self.second) };
        let beside = PathBuf::from(format!("{}.new", file.display()));
        std::fs::write(&beside, serde_json::to_vec(&kept)?)?;
        std::fs::rename(&beside, file)
    }
}

impl Account {
    fn of(world: &World) -> Account {
        let (tokens, names, events) = (world.tokens.clone(), world.names.clone(), world.events.clone());
        Account { world: world.clone(), tokens, names, events }
    }

    fn alive(self) -> World {
        World { tokens: self.tokens, names: self.names, events: self.events, ..self.world }
    }
}

/// Writes the file before the answer leaves: what a caller was told must still be so after a crash.
pub fn layer(router: axum::Router, cloud: Cloud) -> axum::Router {
    router.layer(middleware::from_fn_with_state(cloud, after))
}

async fn after(State(cloud): State<Cloud>, request: Request, next: Next) -> Response {
    let named = header(request.headers(), "x-acs-action").unwrap_or_default();
    let looks = request.method() == http::Method::GET && request.uri().path().starts_with("/_sim")
        || ["Describe", "Get", "List"].iter().any(|start| named.starts_with(start));
    let response = next.run(request).await;
    if !looks && let Err(error) = cloud.lock().save() {
        tracing::error!("the simulated cloud cannot be kept: {error}");
    }
    response
}

/// Maps whose keys are no texts, as lists of pairs.
pub mod pairs {
    use super::{BTreeMap, Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the pairs.
    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    /// Reads them back.
    pub fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> PathBuf {
        let file = std::env::temp_dir().join(format!("ecskms-sim-{name}-{}.json", std::process::id()));
        drop(std::fs::remove_file(&file));
        file
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_under_way_goes_on_after_a_restart_and_no_id_is_given_twice() {
        let file = file("restart");
        let first = Cloud::kept(Options::default(), &file).expect("a new file");
        {
            let mut inner = first.lock();
            let pending = inner.world.schedule(60.0, super::super::world::Event::DiskNext("d-one".into()));
            let disk = super::super::disks::Disk {
                id: "d-one".into(),
                status: "Creating".into(),
                pending,
                ..Default::default()
            };
            inner.world.disks.insert("d-one".into(), disk);
            inner.save().expect("a file");
        }
        let id = first.lock().world.names.ecs_id("d", "cn-hangzhou");
        first.lock().save().expect("a file");
        let before = first.lock().world.now;
        let aliases = first.lock().world.aliases.len();
        drop(first);
        let second = Cloud::kept(Options::default(), &file).expect("the same file");
        let mut inner = second.lock();
        assert!(inner.world.now >= before && aliases > 0);
        assert_eq!(inner.world.aliases.len(), aliases);
        assert_eq!(inner.world.disks["d-one"].status, "Creating");
        assert_ne!(inner.world.names.ecs_id("d", "cn-hangzhou"), id);
        let later = inner.world.now + 61_000;
        inner.world.advance(later);
        assert_eq!(inner.world.disks["d-one"].status, "Available");
        drop(std::fs::remove_file(&file));
    }

    #[tokio::test]
    async fn a_file_that_is_not_understood_is_an_error_and_stays() {
        let file = file("damaged");
        std::fs::write(&file, b"{\"first\":").expect("written");
        assert!(Cloud::kept(Options::default(), &file).is_err());
        assert_eq!(std::fs::read(&file).expect("it stays"), b"{\"first\":");
        drop(std::fs::remove_file(&file));
    }
}
