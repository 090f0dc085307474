//! The manual page of a command: what clap_mangen makes of it, and what clap does not know.

use clap::Command;
use clap_mangen::Man;

use super::{document, examples, see_also};

/// The statuses of each command: the first table of the document.
const STATUSES: &str = include_str!("../../../docs/reference/exit-status.md");
/// The row for all commands.
const ANY: &str = "any,";

/// The titles of groups of options whose headings in the help say more.
const TITLES: [&str; 2] = ["Faults", "Findings"];

/// The name of the file of a page, and its text. `command`: built, so that it knows its full name.
pub(super) fn page(command: &Command, version: &str) -> (String, String) {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let is_main = command.has_subcommands();
    let source = format!("aiotrace {version}");
    // A heading of the help may end with a hint in brackets, which is no title.
    let shown = command.clone().mut_args(|it| {
        let heading = it.get_help_heading().unwrap_or_default();
        let is_hinting = TITLES.iter().find(|title| heading.starts_with(&format!("{title} (")));
        match is_hinting {
            Some(title) => it.help_heading(*title),
            None => it,
        }
    });
    let man = Man::new(shown).source(source).manual("aiotrace");
    let mut made = Vec::new();
    // It only fails if the writer does.
    let _ = man.render(&mut made);
    let made = String::from_utf8_lossy(&made);
    let (before, after) = match made.find(".SH VERSION") {
        Some(at) => made.split_at(at),
        None => (&*made, ""),
    };
    let neighbours = if is_main { all(command) } else { "aiotrace(1)".to_owned() };
    let neighbours = match examples::system(&name) {
        "" => neighbours,
        system => format!("{neighbours}, {system}"),
    };
    let more = format!(
        "## Exit status\n{}\n## Examples\n{}\n## See also\n{}\n",
        statuses(command.get_name(), is_main),
        examples::of(&name).iter().map(shown_example).collect::<String>(),
        see_also(&neighbours, &name)
    );
    (man.get_filename(), format!("{before}{}{after}", document::parts(&more)))
}

/// The pages of all commands.
fn all(command: &Command) -> String {
    let commands = command.get_subcommands().filter(|it| !it.is_hide_set());
    let names: Vec<String> =
        commands.filter_map(|it| Some(format!("{}(1)", it.get_display_name()?))).collect();
    names.join(", ")
}

fn shown_example((about, line): &(&str, &str)) -> String {
    format!("{about}:\n\n```sh\n{line}\n```\n\n")
}

/// The statuses of a command, as a list; those of all, for the program itself.
fn statuses(name: &str, is_main: bool) -> String {
    let rows = STATUSES.lines().filter_map(|it| {
        it.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ").filter(|it| it.0 != "command")
    });
    let quoted = format!("`{name}`");
    let is_its = |names: &str| names.split(", ").any(|it| it == quoted);
    let of_it = rows.filter(|it| is_main || is_its(it.0) || it.0.starts_with(ANY));
    let lines = of_it.flat_map(|(names, statuses)| -> Vec<String> {
        match is_its(names) && !is_main {
            true => statuses.split("; ").map(|it| format!("- {it}\n")).collect(),
            false => vec![format!("- {names}: {statuses}\n")],
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn each_page_has_the_parts_that_clap_does_not_know() {
        let mut command = super::super::super::Cli::command().disable_help_subcommand(true);
        command.build();
        let commands = command.get_subcommands().filter(|it| !it.is_hide_set());
        let pages: Vec<_> = commands.chain([&command]).map(|it| page(it, "1.2.3")).collect();
        assert!(pages.len() > 8);
        for (name, text) in pages {
            let at = |title: &str| {
                let (_, part) = text.split_once(title).unwrap_or_else(|| panic!("{name}: {title}"));
                part.split("\n.SH ").next().unwrap_or_default().trim().to_owned()
            };
            let [statuses, examples, also] =
                [".SH \"EXIT STATUS\"\n", ".SH EXAMPLES\n", ".SH \"SEE ALSO\"\n"].map(at);
            assert!(statuses.matches(".IP").count() >= 2, "{name}: {statuses}");
            assert!(examples.contains(".nf\naiotrace"), "{name}: {examples}");
            assert!(also.contains("(1)") && also.contains("(7)"), "{name}: {also}");
            let is_title = |line: &str| line.starts_with(".SH ") && line.contains('(');
            assert!(!text.lines().any(is_title), "{name}");
        }
    }
}
