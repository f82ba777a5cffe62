//! Entry point of the operator, its tools, and the kubectl plugin `kubectl-ecskms`: parse, call, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ecskms::cli::main()
}
