//! Follows the objects until they rest: bars at a terminal, one line for each change elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kube::Client;
use serde_json::Value;

use super::Standing;
use super::install::{Manifest, api};
use crate::cli::output;

/// How often the objects are read; they are on this machine.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The objects as they stood when all had come to rest, or when the time was up.
pub async fn follow(client: &Client, manifests: &[Manifest], limit: Option<Duration>) -> Vec<Standing> {
    let ours: Vec<&Manifest> = manifests.iter().filter(|manifest| manifest.ours).collect();
    let begun = tokio::time::Instant::now();
    let mut display = Display::new();
    loop {
        let mut standings = Vec::with_capacity(ours.len());
        for manifest in &ours {
            standings.push(look(client, manifest).await);
        }
        display.show(&standings, begun.elapsed());
        let rested = standings.iter().all(|standing| standing.ready || standing.stalled);
        if rested || limit.is_some_and(|limit| begun.elapsed() > limit) {
            display.close();
            return standings;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(client: &Client, manifest: &Manifest) -> Standing {
    let mut standing = Standing {
        manifest: manifest.clone(),
        ready: false,
        stalled: false,
        reason: "Waiting".to_owned(),
        message: "The operator has not looked at it yet.".to_owned(),
        progress: None,
        resource: String::new(),
        key: String::new(),
    };
    let object = match api(client, manifest).get(&manifest.name).await {
        Ok(object) => object,
        Err(error) => return Standing { message: error.to_string(), ..standing },
    };
    let status = &object.data["status"];
    // A status that speaks of an older generation says nothing about this one.
    if status["observedGeneration"].as_i64() != object.metadata.generation {
        return standing;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let holds = condition["status"] == "True";
        match condition["type"].as_str() {
            Some("Ready") => {
                standing.ready = holds;
                standing.reason = text(&condition["reason"]);
                standing.message = text(&condition["message"]);
            }
            Some("Stalled") => standing.stalled = holds,
            _ => {}
        }
    }
    standing.stalled |= standing.reason == "Suspended";
    standing.progress = status["progress"].as_u64();
    standing.resource = ["imageId", "diskId", "instanceId", "accountId"]
        .iter()
        .map(|field| text(&status[field]))
        .find(|id| !id.is_empty())
        .unwrap_or_default();
    standing.key = text(&status["keyId"]);
    standing
}

struct Display {
    terminal: bool,
    bars: MultiProgress,
    shown: BTreeMap<String, (ProgressBar, String)>,
}

impl Display {
    fn new() -> Display {
        Display { terminal: output::is_terminal(), bars: MultiProgress::new(), shown: BTreeMap::new() }
    }

    fn show(&mut self, standings: &[Standing], elapsed: Duration) {
        for standing in standings {
            let manifest = &standing.manifest;
            let key = format!("{}/{}/{}", manifest.kind, manifest.namespace, manifest.name);
            let line = format!(
                "{} {}",
                standing.reason,
                standing.progress.map(|percent| format!("{percent} %")).unwrap_or_default()
            );
            if self.shown.get(&key).is_some_and(|(_, before)| *before == line) {
                continue;
            }
            match self.terminal {
                true => self.show_bar(&key, standing, &line),
                false => output::say(format_args!(
                    "{:6.1}s  {:15} {:28} {}",
                    elapsed.as_secs_f64(),
                    manifest.kind,
                    manifest.name,
                    line.trim_end()
                )),
            }
            let bar = self.shown.get(&key).map_or_else(ProgressBar::hidden, |(bar, _)| bar.clone());
            self.shown.insert(key, (bar, line));
        }
    }

    fn show_bar(&mut self, key: &str, standing: &Standing, line: &str) {
        let bar = match self.shown.get(key) {
            Some((bar, _)) => bar.clone(),
            None => {
                let bar = self.bars.add(ProgressBar::new(100));
                bar.set_style(style());
                bar.set_prefix(format!("{:15} {}", standing.manifest.kind, standing.manifest.name));
                bar
            }
        };
        bar.set_position(if standing.ready { 100 } else { standing.progress.unwrap_or(0) });
        bar.set_message(line.trim_end().to_owned());
        self.shown.insert(key.to_owned(), (bar, String::new()));
    }

    fn close(&self) {
        self.shown.values().for_each(|(bar, _)| bar.abandon());
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:45} {bar:25.cyan/dim} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
