//! Exhaustive checks of the creation protocol and of leader election: every interleaving of small worlds, on the product's
//! own `decide` and `next_move`.
//!
//! What runs here is the real decision; what surrounds it (API server, cloud, claims, the reconcile loop) is a mirror, kept
//! small, in which every function names what it mirrors. HTTP, JSON and signatures are not part of it.

#![expect(clippy::print_stdout, reason = "the size of what was explored is a figure that is reported")]

mod encrypted_disk;
mod encrypted_image;
mod lease;
mod process;
mod protocol;
mod recovery;
mod world;
