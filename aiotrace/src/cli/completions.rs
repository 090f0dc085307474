//! `aiotrace completions`: what a shell needs to complete command lines. The scripts are short: they ask aiotrace
//! itself, by [`answer`], so that they know all options, and words that change, such as the names of processes.

use std::io::{self, Write};

use clap::{Args, Command, ValueEnum};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Shells, Zsh};

use super::print;
use crate::failure::{Context as _, Result};

/// Print what a shell needs to complete aiotrace's command lines
///
/// For this shell only: `source <(aiotrace completions bash)`. For good: the packages have the files; else
///
///   bash: aiotrace completions bash > /usr/share/bash-completion/completions/aiotrace
///
///   zsh: aiotrace completions zsh > /usr/share/zsh/vendor-completions/_aiotrace
///
///   fish: aiotrace completions fish > /usr/share/fish/vendor_completions.d/aiotrace.fish
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// The shells that are known.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The variable by which a script asks; its value is the name of the shell.
const ASKED: &str = "AIOTRACE_COMPLETE";
/// The name of the program, also as the scripts call it.
const NAME: &str = "aiotrace";

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let shell: &dyn EnvCompleter = match options.shell {
        Shell::Bash => &BASH,
        Shell::Zsh => &ZSH,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell.write_registration(ASKED, NAME, NAME, NAME, &mut script).context("cannot write it")?;
    print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// If a shell asks, answers and ends the program.
pub fn answer(command: fn() -> Command) {
    let shells = Shells(&[&BASH, &ZSH, &Fish]);
    CompleteEnv::with_factory(command).var(ASKED).completer(NAME).shells(shells).complete();
}

/// bash divides words at `:` and `=`, of which rules are full; so its script divides the line itself.
const BASH: Scripted = Scripted { shell: &Bash, script: BASH_SCRIPT };

/// `$2` is what bash replaces: the piece of the word behind the last `:` or `=`.
const BASH_SCRIPT: &str = r#"_aiotrace() {
    local words word prefix IFS=$' \t\n'
    read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    case "${COMP_LINE:0:COMP_POINT}" in *[[:space:]]) words+=("") ;; esac
    word=${words[${#words[@]}-1]}
    # A rule with a blank or a star is quoted.
    case "$word" in [\'\"]*) words[${#words[@]}-1]=${word:1} word=${word:1} ;; esac
    case "$COMP_WORDBREAKS" in
        *[:=]*) prefix=${word%"${word##*[:=]}"} ;;
    esac
    IFS=$'\n'
    COMPREPLY=($(ASKED=bash _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]}-1)) \
        aiotrace -- "${words[@]}" 2> /dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    case "${#COMPREPLY[@]}${COMPREPLY[0]}" in 1*[:=/]) compopt -o nospace ;; esac
}
complete -o bashdefault -o default -o nosort -F _aiotrace aiotrace
"#;

/// clap's script for zsh puts a blank behind each word, also behind one that must go on, as `io_submit:` must.
const ZSH: Scripted = Scripted { shell: &Zsh, script: ZSH_SCRIPT };

const ZSH_SCRIPT: &str = r#"#compdef aiotrace
_aiotrace() {
    local it
    local -a found whole open
    found=("${(@f)$(ASKED=zsh _CLAP_COMPLETE_INDEX=$((CURRENT - 1)) _CLAP_IFS=$'\n' \
        aiotrace -- "${(@Q)words}" 2> /dev/null)}")
    for it in $found; do
        case $it in
            *[=/]|*'\:') open+=($it) ;;
            ?*) whole+=($it) ;;
        esac
    done
    [[ -n $open ]] && _describe -V words open -S ''
    [[ -n $whole ]] && _describe -V words whole
}
if [[ ${funcstack[1]} == _aiotrace ]]; then _aiotrace "$@"; else compdef _aiotrace aiotrace; fi
"#;

/// A shell that clap knows, with a script of our own.
struct Scripted {
    shell: &'static dyn EnvCompleter,
    script: &'static str,
}

impl EnvCompleter for Scripted {
    fn name(&self) -> &'static str {
        self.shell.name()
    }

    fn is(&self, name: &str) -> bool {
        self.shell.is(name)
    }

    fn write_registration(
        &self,
        asked: &str,
        _name: &str,
        _program: &str,
        _completer: &str,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        out.write_all(self.script.replace("ASKED", asked).as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut Command,
        words: Vec<std::ffi::OsString>,
        directory: Option<&std::path::Path>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        self.shell.write_complete(command, words, directory, out)
    }
}
