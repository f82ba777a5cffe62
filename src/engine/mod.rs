//! The engine: one generic reconcile loop and what it stands on. Knows no kind by name and no cloud operation.

pub mod conditions;
pub mod controller;
pub mod events;
pub mod health;
pub mod lease;
mod merge;
pub mod metrics;
mod news;
pub mod pace;
pub mod reconcile;
pub mod rehearse;
mod urgent;
pub mod watch;

pub use controller::{Context, run};
