//! Simulated time as a multiple of the runtime's time.
//!
//! Deliberately built on the asynchronous runtime's clock, so that a paused runtime pauses the cloud. The
//! only reading of real time is what clients compare with their own clocks: signature dates and session
//! expirations.

use tokio::time::Instant;

use super::world::Moment;

/// The clock of one cloud.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    anchor: Instant,
    at_anchor: Moment,
    scale: f64,
}

impl Clock {
    /// Starts now, at the real date.
    pub fn new(scale: f64) -> Clock {
        let now = Instant::now();
        Clock { start: now, anchor: now, at_anchor: real_now(), scale: scale.max(0.0) }
    }

    /// Starts now, at the real date or at `moment` if that is later.
    pub fn not_before(scale: f64, moment: Moment) -> Clock {
        let mut clock = Clock::new(scale);
        clock.at_anchor = clock.at_anchor.max(moment);
        clock
    }

    /// The simulated time.
    pub fn now(&self) -> Moment {
        self.at_anchor + (self.anchor.elapsed().as_secs_f64() * self.scale * 1000.0) as Moment
    }

    /// Simulated seconds per real second.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Changes the pace from now on. Zero stops time.
    pub fn set_scale(&mut self, scale: f64) {
        self.at_anchor = self.now();
        self.anchor = Instant::now();
        self.scale = scale.max(0.0);
    }

    /// Jumps ahead.
    pub fn advance(&mut self, seconds: f64) {
        self.at_anchor += (seconds.max(0.0) * 1000.0) as Moment;
    }

    /// Real milliseconds since the cloud was made.
    pub fn running_milliseconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64() * 1000.0
    }
}

/// Real time in milliseconds since the epoch.
pub fn real_now() -> Moment {
    jiff::Timestamp::now().as_millisecond()
}
