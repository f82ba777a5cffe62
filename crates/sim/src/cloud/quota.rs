//! Request quotas: ECS counts per minute, region and action, KMS per second, region and direction.
//!
//! Deliberately hard windows on the simulated clock: what exceeds a window is refused until the next one
//! begins.

use std::collections::BTreeMap;

use super::actions::{Action, Service};
use super::refusal::Refusal;
use super::settings::Settings;
use super::world::Moment;

const MINUTE_MILLISECONDS: i64 = 60_000;
const SECOND_MILLISECONDS: i64 = 1_000;

/// The counts of the current windows.
#[derive(Clone, Debug, Default)]
pub struct Quotas {
    windows: BTreeMap<String, (i64, u32)>,
}

impl Quotas {
    /// Counts one call and refuses it if its window is full. `scale` is simulated seconds per real second.
    pub fn count(
        &mut self,
        settings: &Settings,
        action: &Action,
        region: &str,
        now: Moment,
        scale: f64,
    ) -> Result<(), Refusal> {
        let own = settings.quotas.get(action.name).copied();
        let (name, limit, length) = match (action.service, own) {
            (Service::Kms, None) if action.writes => {
                (format!("{region} kms writes"), settings.kms_writes_per_second, SECOND_MILLISECONDS)
            }
            (Service::Kms, None) => {
                (format!("{region} kms reads"), settings.kms_reads_per_second, SECOND_MILLISECONDS)
            }
            (service, own) => {
                let limit = own.unwrap_or(settings.quota_default);
                (format!("{region} {} {}", service.name(), action.name), limit, MINUTE_MILLISECONDS)
            }
        };
        let window = now / length;
        let entry = self.windows.entry(name).or_insert((window, 0));
        if entry.0 != window {
            *entry = (window, 0);
        }
        entry.1 = entry.1.saturating_add(1);
        if entry.1 <= limit {
            return Ok(());
        }
        // assumption: throttling-codes
        let (status, code) = match action.service {
            Service::Kms => (429, "Rejected.Throttling"),
            _ => (400, "Throttling.User"),
        };
        let mut refusal = Refusal::new(status, code, "Request was denied due to user flow control.");
        let left = ((window + 1) * length - now) as f64;
        refusal.retry_after_milliseconds = Some((left / scale.max(0.001)).ceil() as u64);
        Err(refusal)
    }
}
