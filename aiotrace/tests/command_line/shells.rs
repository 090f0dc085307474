//! Completions in the real shells, and manual pages read by the real man(1). A machine that lacks one of them skips its
//! part, unless the build requires all there is (CI does).

use std::process::Command;

use super::aiotrace;

/// Ten command lines that end where the user presses Tab, and a word that must be offered.
const LINES: [(&str, &str); 10] = [
    ("aiotrace at", "attach"),
    ("aiotrace attach --du", "--duration"),
    ("aiotrace attach --format js", "json"),
    ("aiotrace run --inject io_su", "io_submit:"),
    ("aiotrace run --inject io_submit:err", "io_submit:error="),
    ("aiotrace run --inject io_submit:error=EAG", "io_submit:error=EAGAIN"),
    ("aiotrace run --inject io_submit:error=EAGAIN:wh", "io_submit:error=EAGAIN:when="),
    ("aiotrace explain context-l", "context-leak"),
    ("aiotrace explain io_submit EBA", "EBADF"),
    ("aiotrace attach --only op=pwritev", "op=pwritev"),
];

/// Whether the program is here; if not, the test says so, or fails where everything must be there.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_here = std::env::split_paths(&path).any(|it| it.join(program).exists());
    assert!(is_here || std::env::var_os("AIOTRACE_REQUIRE_EBPF").is_none(), "{program} is missing");
    if !is_here {
        eprintln!("{program} is not here: this part is not tested");
    }
    is_here
}

/// What a shell prints for a script, with aiotrace's completions in the file `$1`.
fn shell(program: &str, options: &[&str], script: &str, arguments: &[&str]) -> String {
    let made = String::from_utf8(aiotrace(&["completions", program]).stdout).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("completions");
    std::fs::write(&file, made).unwrap();
    let ours = std::path::Path::new(env!("CARGO_BIN_EXE_aiotrace")).parent().unwrap();
    let path = format!("{}:{}", ours.display(), std::env::var("PATH").unwrap());
    let name = if program == "bash" || program == "zsh" { &[program][..] } else { &[] };
    let output = Command::new(program)
        .args(options)
        .args(["-c", script])
        .args(name)
        .arg(&file)
        .args(arguments)
        .env("PATH", path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn bash_completes_words_and_the_pieces_of_rules() {
    if !has("bash") {
        return;
    }
    // As readline calls it: the shell divides words at `:` and `=`, so only what stands behind is offered.
    let script = r#"
        source "$1"; shift
        compopt() { :; }
        COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
        for COMP_LINE; do
            COMP_POINT=${#COMP_LINE} COMPREPLY=()
            "$(complete -p aiotrace | sed 's/.*-F \([^ ]*\) .*/\1/')"
            echo "${COMPREPLY[*]}"
        done"#;
    let text = shell("bash", &["--norc"], script, &LINES.map(|it| it.0));
    for ((line, word), found) in LINES.into_iter().zip(text.lines()) {
        let (start, name) = line.rsplit_once(' ').map_or(("", line), |it| it);
        let kept = name.rfind([':', '=']).map_or(0, |at| at + 1);
        let rest = &word[kept..];
        assert!(found.split(' ').any(|it| it == rest), "{start} {name}: {rest:?} in {found:?}");
    }
    assert_eq!(text.lines().count(), LINES.len(), "{text}");
}

#[test]
fn zsh_completes() {
    if !has("zsh") {
        return;
    }
    // What zsh would show: `_describe -V NAME ARRAY`.
    let script = r#"
        functions[compdef]=:
        source "$1"; shift
        _describe() { print -rl -- ${(P)3} }
        for line; do
            words=(${(z)line}); [[ $line == *' ' ]] && words+=('')
            CURRENT=$#words
            print -r -- "--$line"
            _aiotrace
        done"#;
    let text = shell("zsh", &["-f"], script, &LINES.map(|it| it.0));
    let parts: Vec<&str> = text.split("--aiotrace").skip(1).collect();
    assert_eq!(parts.len(), LINES.len(), "{text}");
    for ((line, word), found) in LINES.into_iter().zip(parts) {
        let is_it =
            |it: &str| it.replace("\\:", "\0").split(':').next() == Some(&word.replace(':', "\0"));
        assert!(found.lines().any(is_it), "{line}: {word} in {found}");
    }
}

#[test]
fn fish_completes() {
    if !has("fish") {
        return;
    }
    let script = r#"
        source $argv[1]
        for line in $argv[2..]
            echo "--$line"
            complete -C $line
        end"#;
    let text = shell("fish", &["--no-config"], script, &LINES.map(|it| it.0));
    let parts: Vec<&str> = text.split("--aiotrace").skip(1).collect();
    assert_eq!(parts.len(), LINES.len(), "{text}");
    for ((line, word), found) in LINES.into_iter().zip(parts) {
        let is_it = |it: &str| it.split('\t').next() == Some(word);
        assert!(found.lines().any(is_it), "{line}: {word} in {found}");
    }
}

/// Each command has a page, and man(1) has nothing to say against any.
#[test]
fn there_is_a_manual_page_for_each_command() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_eq!(aiotrace(&["man", path]).status.code(), Some(0));
    let help = String::from_utf8(aiotrace(&["--help"]).stdout).unwrap();
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = commands.lines().filter(|it| it.starts_with("  ") && !it.starts_with("   "));
    let names = names.filter_map(|it| it.split_whitespace().next()).filter(|it| *it != "help");
    let mut pages: Vec<String> = names.map(|it| format!("aiotrace-{it}.1")).collect();
    assert!(pages.len() >= 8, "{help}");
    pages.extend(
        ["aiotrace.1", "aiotrace-faults.7", "aiotrace-findings.7", "aiotrace-json.5"]
            .map(str::to_owned),
    );
    pages.sort();
    let files = std::fs::read_dir(directory.path()).unwrap();
    let mut found: Vec<String> =
        files.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, pages);
    let findings = std::fs::read_to_string(directory.path().join("aiotrace-findings.7")).unwrap();
    for name in aiotrace::model::Name::ALL {
        let title = format!(".SH {}", name.text().to_uppercase());
        assert!(findings.replace('\\', "").contains(&title), "{title}");
    }
    if has("man") {
        for page in found {
            let output = Command::new("man")
                .args(["--warnings", "-l", directory.path().join(&page).to_str().unwrap()])
                .output()
                .unwrap();
            let complaints = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success() && complaints.is_empty(), "{page}: {complaints}");
            assert!(!output.stdout.is_empty(), "{page}");
        }
    }
}
