//! KeyRevocation.
pub mod api;
