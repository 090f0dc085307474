//! The program `aiotrace`: see [`aiotrace::cli`].

/// musl's allocator takes more than all the rest of aiotrace together, and so events were lost that are not lost with
/// glibc's. This one is Rust, so that no target needs a C compiler.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    aiotrace::cli::main()
}
