//! Everything that is shipped as a file and follows from the code: CRDs, RBAC, admission policies, chart templates, Argo CD
//! health, RAM policies.
//!
//! `UPDATE=1 cargo test --test generated` rewrites the files. What only kubectl, Helm or Lua can judge is in
//! `tests/clients`.

#[path = "generated/admission.rs"]
mod admission;
#[path = "generated/calls.rs"]
mod calls;
#[path = "generated/files.rs"]
mod files;
#[path = "generated/permissions.rs"]
mod permissions;
#[path = "generated/rules.rs"]
mod rules;
#[path = "generated/samples.rs"]
mod samples;
#[path = "generated/schemas.rs"]
mod schemas;
