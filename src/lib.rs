#![doc = include_str!("../ARCHITECTURE.md")]

// In dependency order: each module may use those above it. `tests/architecture.rs` holds the exact table.
pub mod alibaba;
pub mod cli;
pub mod decision;
pub mod diagnosis;
pub mod engine;
pub mod kind;
pub mod kinds;
pub mod manifests;
pub mod resource;
