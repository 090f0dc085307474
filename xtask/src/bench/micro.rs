//! `cargo bench`: how many events a second one processor handles once they are in user space.

use anyhow::{Context as _, Result, bail};

use super::table::thousands;
use crate::command::{self, REQUIRE_EBPF, cargo};

/// The benchmarks (aiotrace/benches/events.rs), and how many events a second each should handle.
const BENCHMARKS: [(&str, &str, Option<f64>); 5] = [
    ("decode", "records decoded", None),
    ("model_of_events", "the model", Some(2e6)),
    ("text", "as text", None),
    ("json", "as JSON", Some(1e6)),
    ("summary", "counted (-c)", None),
];

/// Runs the benchmarks; gives a table.
pub fn run() -> Result<String> {
    let mut bench = cargo(&["bench", "-p", "aiotrace", "--bench", "events"]);
    let said = command::output(bench.env(REQUIRE_EBPF.0, REQUIRE_EBPF.1))?;
    let mut out =
        "Events per second, on one processor (`cargo bench -p aiotrace --bench events`):\n\n\
                   | | events per second | wanted | in this run |\n|---|--:|--:|---|\n"
            .to_owned();
    for (name, title, wanted) in BENCHMARKS {
        let rate = rate(&said, name).with_context(|| format!("{name}: {said}"))?;
        let (wanted, met) = match wanted {
            None => (String::new(), ""),
            Some(wanted) => (thousands(wanted), if rate >= wanted { "met" } else { "missed" }),
        };
        out.push_str(&format!("| {title} | {} | {wanted} | {met} |\n", thousands(rate)));
    }
    if said.trim().is_empty() {
        bail!("cargo bench said nothing");
    }
    Ok(out)
}

/// The median rate in divan's output: below the line with the benchmark's name, which has the times
/// (fastest, slowest, median, mean), is a line with the rates.
fn rate(said: &str, name: &str) -> Option<f64> {
    let mut lines = said.lines().skip_while(|line| {
        line.trim_start_matches([' ', '├', '╰', '─', '│']).split(' ').next() != Some(name)
    });
    let rates = lines.nth(1)?;
    let median = rates.split('│').filter(|it| it.contains("item/s")).nth(2)?;
    let mut words = median.split_whitespace();
    let value: f64 = words.next()?.parse().ok()?;
    let factor = match words.next()? {
        "item/s" => 1.0,
        "Kitem/s" => 1e3,
        "Mitem/s" => 1e6,
        "Gitem/s" => 1e9,
        _ => return None,
    };
    Some(value * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_rate_is_read() {
        let said = "events      fastest       │ slowest       │ median        │ mean          │ samples │ iters\n\
                    ├─ decode   2.1 ms        │ 3.5 ms        │ 2.2 ms        │ 2.3 ms        │ 100     │ 100\n\
                    │           7.1 Mitem/s   │ 4.2 Mitem/s   │ 6.8 Mitem/s   │ 6.5 Mitem/s   │         │\n\
                    ╰─ json     9.1 ms        │ 9.5 ms        │ 9.2 ms        │ 9.3 ms        │ 100     │ 100\n\
                    \u{20}           1.1 Mitem/s   │ 900 Kitem/s   │ 950.5 Kitem/s │ 1 Mitem/s     │         │\n";
        assert_eq!(rate(said, "decode"), Some(6.8e6));
        assert_eq!(rate(said, "json"), Some(950.5e3));
        assert_eq!(rate(said, "text"), None);
    }
}
