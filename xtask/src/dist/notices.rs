//! The licences of what is linked into the program and is not ours, in one file that all packages have.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Release, components};
use crate::command;

/// The name of the file.
pub(super) const NAME: &str = "THIRD-PARTY-LICENSES.txt";

/// How the names of files with licences begin, in small letters.
const BEGINNINGS: [&str; 6] = ["copying", "copyright", "licence", "license", "notice", "unlicense"];
/// How the file begins.
const HEAD: &str = "\
What is linked into aiotrace, or into the probes in it, and is not a part of the project: names,
versions and licences (as SPDX writes them), and then the texts that come with them, each once.

";
/// What musl's file COPYRIGHT says. rustc's target has the library, but not the file.
const MUSL: &str = include_str!("musl-copyright.txt");

/// A package with the texts of its licences.
struct Package {
    name: String,
    version: String,
    /// An expression of SPDX.
    licence: String,
    texts: Vec<String>,
}

impl Package {
    fn title(&self) -> String {
        format!("{} {}", self.name, self.version).trim_end().to_owned()
    }
}

/// Writes the file to where [`super::tree::copy_licences`] takes it from.
pub(super) fn write(release: &Release) -> Result<()> {
    let mut packages = Vec::new();
    let metadata = components::metadata(release)?;
    // Those without a source are our own.
    for it in components::linked(&metadata)?.into_iter().filter(|it| !it["source"].is_null()) {
        packages.push(of_crate(it)?);
    }
    packages.extend(of_toolchain()?);
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(fs::write(release.work.join(NAME), document(&packages))?)
}

fn of_crate(package: &Value) -> Result<Package> {
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let manifest = PathBuf::from(text("manifest_path"));
    let directory = manifest.parent().context("a package without a manifest")?;
    Ok(Package {
        name: text("name"),
        version: text("version"),
        licence: components::licence(package),
        texts: texts(directory, has_licence)?,
    })
}

/// What is linked into each static program that rustc makes.
fn of_toolchain() -> Result<[Package; 3]> {
    let about = Path::new(&command::sysroot()?).join("share/doc/rust");
    let read = |name: &str| -> Result<String> {
        let path = about.join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(normal(&text))
    };
    let version = command::output(std::process::Command::new("rustc").arg("--version"))?;
    let version = version.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let package = |name: &str, version: &str, licence: &str, texts: Vec<String>| Package {
        name: name.to_owned(),
        version: version.to_owned(),
        licence: licence.to_owned(),
        texts,
    };
    let library = vec![plain(&read("COPYRIGHT-library.html")?)];
    let unwind = vec![read("licenses/Apache-2.0.txt")?, read("licenses/LLVM-exception.txt")?];
    Ok([
        package("Rust's standard library", &version, "MIT OR Apache-2.0", library),
        package("LLVM's libunwind", "", "Apache-2.0 WITH LLVM-exception", unwind),
        package("musl", "", "MIT", vec![normal(MUSL)]),
    ])
}

/// Whether a file of this name has a licence in it.
fn has_licence(name: &str) -> bool {
    let name = name.to_lowercase();
    BEGINNINGS.iter().any(|it| name.starts_with(it)) && !name.ends_with(".rs")
}

/// The texts of the files in a directory with such names; of directories with such names, of all files.
fn texts(directory: &Path, is_wanted: fn(&str) -> bool) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        if is_wanted(&entry.file_name().to_string_lossy()) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            found.extend(texts(&path, |_| true)?);
        } else {
            let content = fs::read(&path).with_context(|| path.display().to_string())?;
            found.push(normal(&String::from_utf8_lossy(&content)));
        }
    }
    Ok(found)
}

/// The text without what makes equal ones differ: ends of lines, and blank lines around it.
fn normal(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// The text of a page of HTML, with one blank line at most between two others.
fn plain(page: &str) -> String {
    let mut parts = page.split('<');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once('>').map_or("", |it| it.1));
    }
    let characters = [
        ("&lt;", "<"),
        ("&#60;", "<"),
        ("&gt;", ">"),
        ("&#62;", ">"),
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    let text = characters.iter().fold(text, |text, (from, to)| text.replace(from, to));
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.dedup_by(|a, b| a.is_empty() && b.is_empty());
    normal(&lines.join("\n"))
}

/// Each text once, with the packages that have it, in the order in which they come.
fn grouped(packages: &[Package]) -> Vec<(&str, Vec<String>)> {
    let mut places = BTreeMap::new();
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for package in packages {
        for text in &package.texts {
            let place = *places.entry(text.as_str()).or_insert(groups.len());
            if place == groups.len() {
                groups.push((text.as_str(), Vec::new()));
            }
            let title = package.title();
            if !groups[place].1.contains(&title) {
                groups[place].1.push(title);
            }
        }
    }
    groups
}

fn document(packages: &[Package]) -> String {
    let mut text = HEAD.to_owned();
    for package in packages {
        let none = if package.texts.is_empty() { " (without a text in its package)" } else { "" };
        text.push_str(&format!("{}: {}{none}\n", package.title(), package.licence));
    }
    for (licence, names) in grouped(packages) {
        let line = "=".repeat(80);
        text.push_str(&format!("\n{line}\n{}\n{line}\n\n{licence}\n", names.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, texts: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: "MIT".to_owned(),
            texts: texts.iter().map(|it| normal(it)).collect(),
        }
    }

    #[test]
    fn equal_texts_stand_there_once_with_all_that_have_them() {
        let packages = [
            package("a", &["apache\n", "mit of a"]),
            package("b", &["\r\napache  \r\n\r\n", "mit of b", "mit of b"]),
            package("c", &[]),
        ];
        let both = || vec!["a 1.0.0".to_owned(), "b 1.0.0".to_owned()];
        let right = [
            ("apache", both()),
            ("mit of a", vec!["a 1.0.0".to_owned()]),
            ("mit of b", vec!["b 1.0.0".to_owned()]),
        ];
        assert_eq!(grouped(&packages), right);
        let document = document(&packages);
        assert_eq!(document.matches("apache").count(), 1, "{document}");
        let without = "\nc 1.0.0: MIT (without a text in its package)\n";
        assert!(document.contains(without), "{document}");
        assert!(document.contains("\na 1.0.0, b 1.0.0\n"), "{document}");
    }

    #[test]
    fn licences_are_known_by_their_names() {
        for name in ["LICENSE", "LICENSE-MIT", "license-apache-2.0", "COPYING", "NOTICE.txt"] {
            assert!(has_licence(name), "{name}");
        }
        for name in ["README.md", "src", "license.rs", "Cargo.toml"] {
            assert!(!has_licence(name), "{name}");
        }
    }

    #[test]
    fn a_page_of_html_becomes_text() {
        let page = "<h1>Rust</h1>\n\n\n<p>a &lt;b&gt; &amp;lt; <b>c</b></p>";
        assert_eq!(plain(page), "Rust\n\na <b> &lt; c");
    }
}
