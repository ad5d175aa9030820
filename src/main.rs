//! The `coracle` binary: all of it is in the library.

fn main() -> std::process::ExitCode {
    coracle::main()
}
