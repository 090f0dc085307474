//! What the verdicts on faults mean: the table of docs/faults.md. There alone it is written.
//!
//! ```text
//!  | verdict | means |
//!  |---|---|
//!  | exited, died | the process ended within eight AIO calls |
//! ```

const DOCUMENT: &str = include_str!("../../../docs/faults.md");
const HEAD: &str = "| verdict | means |";

/// The verdicts, and what they mean.
pub fn all() -> impl Iterator<Item = (&'static str, String)> {
    let table = DOCUMENT.split(HEAD).nth(1).unwrap_or_default();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let mut cells = row.trim_matches('|').splitn(2, " | ");
        let names = cells.next().unwrap_or_default();
        let means = plain(cells.next().unwrap_or_default());
        names.split(',').map(str::trim).map(move |name| (name, means.clone()))
    })
}

/// What a verdict means, also as JSON writes its name: `gave_up`.
pub fn of(name: &str) -> Option<String> {
    let name = name.replace(['_', '-'], " ");
    all().find(|it| it.0 == name).map(|it| it.1)
}

/// Without marks.
fn plain(text: &str) -> String {
    text.replace("**", "")
        .replace(['*', '`'], "")
        .trim()
        .trim_end_matches('|')
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Outcome;

    #[test]
    fn every_verdict_is_explained() {
        for outcome in [
            Outcome::Retried,
            Outcome::GaveUp,
            Outcome::Lost,
            Outcome::Leaked,
            Outcome::Hung,
            Outcome::Exited,
            Outcome::Died,
            Outcome::Undecided,
            Outcome::Unsure,
        ] {
            let means = of(outcome.text()).unwrap_or_default();
            assert!(means.len() > 20 && !means.contains(['*', '|']), "{}: {means}", outcome.text());
        }
        assert_eq!(of("nothing"), None);
    }
}
