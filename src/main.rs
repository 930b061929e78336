//! The command line of dbkeeper.

fn main() -> std::process::ExitCode {
    dbkeeper::cli::main()
}
