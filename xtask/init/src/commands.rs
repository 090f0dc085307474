//! The commands that a guest runs instead of the kernel tests, one after the other: the lines of /commands.

use std::process::Command;

/// Runs them. A line that ends with ` &` is not waited for.
pub fn run() {
    let text = std::fs::read_to_string("/commands").unwrap_or_default();
    for line in text.lines() {
        println!("guest | begin | {line}");
        let (words, is_waited_for) = match line.strip_suffix(" &") {
            Some(words) => (words, false),
            None => (line, true),
        };
        let mut words = words.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        let ended = match is_waited_for {
            true => command.status().map(|it| it.to_string()),
            false => command.spawn().map(|_| "begun".to_owned()),
        };
        let ended = ended.unwrap_or_else(|error| error.to_string());
        println!("guest | end | {line} | {ended}");
    }
}
