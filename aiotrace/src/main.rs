//! The program `aiotrace`: see [`aiotrace::cli`].

fn main() -> std::process::ExitCode {
    aiotrace::cli::main()
}
