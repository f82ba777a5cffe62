//! The embedded Kubernetes API server: faithful enough for kubectl, kube-rs, Helm and kubernetes-python.
//!
//! For tests and figures: `GET` and `DELETE /_kube/stats` (see `statistics`), `GET`, `PUT` and `DELETE /_kube/faults`
//! (see `faults`). With a data directory the objects outlive the process (see `journal`).
//!
//! Deliberately absent: authentication and authorisation (it serves loopback only), admission and conversion
//! webhooks, aggregation, built-in controllers other than the garbage collector and the namespace cleaner,
//! kubelets, the scale subresource, validation of built-in kinds beyond their metadata, protobuf answers.

mod accept;
mod apply;
mod body;
mod builtin;
mod call;
mod cel;
mod collector;
mod definitions;
mod delete;
mod discovery;
mod events;
mod faults;
mod fields;
mod http;
mod journal;
mod kinds;
mod metadata;
mod names;
mod openapi;
mod options;
mod patch;
mod patches;
mod protobuf;
mod read;
mod route;
mod schema;
mod selector;
mod server;
mod state;
mod statistics;
mod status;
mod store;
mod strict;
mod table;
mod validate;
mod view;
mod watch;
mod write;
mod yaml;

pub use server::{Options, Server, kubeconfig};
