//! The examples of manual pages. A test parses each of them.

/// What an example is for, and its command line.
pub(super) type Example = (&'static str, &'static str);

/// The examples on the page with this name.
pub(super) fn of(page: &str) -> &'static [Example] {
    let found = ALL.iter().find(|it| it.0 == page);
    found.map_or(&[], |it| it.2)
}

/// Pages of others to read beside this one.
pub(super) fn system(page: &str) -> &'static str {
    ALL.iter().find(|it| it.0 == page).map_or("", |it| it.1)
}

const ALL: &[(&str, &str, &[Example])] = &[
    (
        "aiotrace",
        "io_setup(2), io_submit(2), io_getevents(2), io_cancel(2), io_destroy(2), strace(1)",
        &[
            ("Who has AIO contexts, and who holds fs.aio-nr", "aiotrace ls"),
            (
                "What is wrong with all processes of the name fio, in twelve seconds",
                "aiotrace attach -q -p fio --duration 12s",
            ),
            (
                "How a program takes an io_submit that fails",
                "aiotrace run -q -f --inject io_submit:error=EAGAIN:when=3 -- ./app",
            ),
        ],
    ),
    (
        "aiotrace-attach",
        "aiotrace-run(1), aiotrace-report(1)",
        &[
            (
                "What is wrong with a process, in twelve seconds",
                "aiotrace attach -q -p 4711 -d 12s",
            ),
            ("Only calls and results that are errors", "aiotrace attach --only error -p mariadbd"),
            (
                "Who does how much and how fast, each second",
                "aiotrace attach -c --requests --interval 1s --unit mariadb.service",
            ),
            (
                "Every event of a container as JSON, into a file",
                "aiotrace attach --format json -o events.jsonl --container web",
            ),
            (
                "Ten calls of io_submit fail in a running program",
                "aiotrace attach -q -p 4711 --inject io_submit:error=EAGAIN:max=10 -d 1m",
            ),
        ],
    ),
    (
        "aiotrace-run",
        "aiotrace-attach(1), aiotrace-sweep(1), timeout(1)",
        &[
            (
                "What is wrong with a program and its children, from the first call on",
                "aiotrace run -q -f -- ./app",
            ),
            (
                "Every call, and the functions that made the contexts",
                "aiotrace run -f -v -- ./app --some-option",
            ),
            ("Without privilege", "aiotrace run -q -f --source ptrace -- ./app"),
            (
                "A test that fails if the program loses a request after an error",
                "aiotrace run -q -f --timeout 1m --inject complete:res=EIO:op=pwrite:when=5 \
                 --fail-on-fault lost,leaked,hung,died -- ./app",
            ),
        ],
    ),
    (
        "aiotrace-sweep",
        "aiotrace-run(1)",
        &[
            ("All faults at all places where the program does AIO", "aiotrace sweep -- ./app"),
            (
                "The data is checked after each run",
                "aiotrace sweep --reset 'rm -rf data' --check './verify data' -- ./app data",
            ),
        ],
    ),
    (
        "aiotrace-ls",
        "aiotrace-top(1), proc_sys_fs(5)",
        &[
            ("Each context, too", "aiotrace ls -v"),
            ("Again every five seconds", "aiotrace ls --watch 5"),
            ("For a program to read", "aiotrace ls --format json"),
        ],
    ),
    (
        "aiotrace-capacity",
        "aiotrace-ls(1), proc_sys_fs(5)",
        &[
            ("What one more of each program takes, and how many more fit", "aiotrace capacity"),
            (
                "Whether three more fit; the status is 1 if not",
                "aiotrace capacity mariadbd --need 3",
            ),
            (
                "The same of a program that does not run here",
                "aiotrace capacity --charge 2048 --need 3",
            ),
        ],
    ),
    (
        "aiotrace-top",
        "aiotrace-ls(1), top(1)",
        &[
            ("The whole machine, as a screen", "aiotrace top"),
            ("Three tables, one each second", "aiotrace top -b -n 3"),
        ],
    ),
    (
        "aiotrace-serve",
        "aiotrace-ls(1), aiotrace-top(1)",
        &[
            ("Metrics at http://127.0.0.1:9764/metrics", "aiotrace serve"),
            ("What a scrape would tell now", "aiotrace serve --once"),
            (
                "For node_exporter, each ten seconds, attaching nothing",
                "aiotrace serve --list-only --textfile /var/lib/prometheus/node-exporter/aiotrace.prom",
            ),
        ],
    ),
    (
        "aiotrace-report",
        "aiotrace-run(1), aiotrace-attach(1)",
        &[
            ("Only findings and the report", "aiotrace report -q trace.aiotrace"),
            (
                "As a timeline for a browser",
                "aiotrace report --format perfetto -o trace.pftrace trace.aiotrace",
            ),
            ("A recording, read from standard input", "aiotrace report -"),
            (
                "Recordings of many machines as tables for DuckDB and others",
                "aiotrace report --format parquet -o tables one.aiotrace other.aiotrace",
            ),
        ],
    ),
    (
        "aiotrace-explain",
        "errno(3)",
        &[
            ("A finding", "aiotrace explain context-leak"),
            ("What io_submit means by EAGAIN", "aiotrace explain io_submit EAGAIN"),
            ("A verdict on a fault", "aiotrace explain lost"),
        ],
    ),
    (
        "aiotrace-doctor",
        "capabilities(7)",
        &[("What works here, and for each no why and what to do", "aiotrace doctor")],
    ),
    (
        "aiotrace-completions",
        "bash(1), zsh(1), fish(1)",
        &[(
            "For this user's fish",
            "aiotrace completions fish > ~/.config/fish/completions/aiotrace.fish",
        )],
    ),
    (
        "aiotrace-man",
        "man(1)",
        &[("All pages into a directory of one's own", "aiotrace man ~/.local/share/man/man1")],
    ),
];

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// The words of a line, as a shell divides it: quotes are single ones around whole words.
    fn words(line: &str) -> Vec<&str> {
        let line = line.split(" > ").next().unwrap_or_default();
        let parts = line.split('\'').enumerate();
        let words = parts.flat_map(|(index, part)| -> Vec<&str> {
            if index % 2 == 0 { part.split_whitespace().collect() } else { vec![part] }
        });
        words.collect()
    }

    #[test]
    fn each_example_is_a_command_line_and_stands_on_the_page_of_its_command() {
        for (page, _, examples) in ALL {
            assert!(!examples.is_empty(), "{page}");
            for (_, line) in *examples {
                let words = words(line);
                let parsed = super::super::super::Cli::try_parse_from(&words);
                assert!(parsed.is_ok(), "{line}: {:?}", parsed.map(|_| ()));
                let own = page.strip_prefix("aiotrace-");
                assert!(own.is_none_or(|it| it == words[1]), "{page}: {line}");
            }
        }
    }
}
