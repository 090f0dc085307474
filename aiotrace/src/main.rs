//! The program `aiotrace`: see [`aiotrace::cli`].

#[cfg(all(target_arch = "x86_64", any(target_env = "musl", test)))]
mod copy;

fn main() -> std::process::ExitCode {
    aiotrace::cli::main()
}
