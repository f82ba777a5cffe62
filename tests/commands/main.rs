//! Subcommands as processes, over real sockets. One program for all of them, because each would link the whole operator anew.

mod audit_command;
mod check_command;
mod journal_command;
mod plan_command;
mod status_command;
mod streams;
