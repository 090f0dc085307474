//! One page with everything: it loads nothing, and has no scripts.

use std::fmt::Write as _;

use super::{
    Outcome, Settings,
    plan::Plan,
    reproduce::from_anywhere,
    table::{columns, counts, rows},
    told::Told,
};

/// Light and dark; a wide table scrolls by itself.
const STYLE: &str = "
:root{color-scheme:light dark;--bad:#b3261e;--good:#1b6e3c;--dim:#6b6b6b}
@media(prefers-color-scheme:dark){:root{--bad:#ff8a80;--good:#7bd88f;--dim:#9a9a9a}}
body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:75rem;padding:0 1rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.2rem .4rem;text-align:left;border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)}
td.cell{font-family:monospace;font-weight:bold}
td.site{min-width:16rem;overflow-wrap:anywhere}
tr.above{display:none}
@media(max-width:60rem){
tr.above{display:table-row}td.site,th.site{display:none}
tr.above td{border:0;padding-top:.6rem;overflow-wrap:anywhere}
tr.above div{position:sticky;left:0;max-width:calc(100vw - 3rem)}
th,td.cell{font-size:.75rem;padding:.1rem .2rem}
}
.bad{color:var(--bad)}.good{color:var(--good)}.dim{color:var(--dim)}
h2{font-size:1.1rem;margin-top:2rem}
h2,p{overflow-wrap:anywhere}
pre{white-space:pre-wrap;overflow-wrap:anywhere;padding:.5rem;border:1px solid color-mix(in srgb,currentColor 20%,transparent)}
";

/// The page.
pub fn page(settings: &Settings, plan: &Plan, told: &[&Told]) -> String {
    let mut page = String::new();
    let command = escaped(&plan.asked.command.join(" "));
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>aiotrace sweep</title><style>{STYLE}</style>\
         <h1>aiotrace sweep</h1><pre>{command}</pre><p>{}</p>",
        escaped(&counts(told))
    );
    let columns = columns(plan);
    // The names of sites are long: they stand behind the letters, or on a narrow screen above them.
    page.push_str("<div class=\"wide\"><table><thead><tr>");
    for group in columns.chunk_by(|a, b| a.0 == b.0) {
        let _ = write!(page, "<th colspan=\"{}\">{}</th>", group.len(), escaped(&group[0].0));
    }
    page.push_str("<th class=\"site\" rowspan=\"2\">site</th></tr><tr>");
    for (_, mode) in &columns {
        let _ = write!(page, "<th>{}</th>", mode.text());
    }
    page.push_str("</tr></thead><tbody>");
    for row in rows(plan, told) {
        let (name, ids) = (escaped(&row.name), escaped(&row.sites.join(" ")));
        let name = format!("{name} <small class=\"dim\">{ids}</small>");
        let wide = columns.len();
        let _ = write!(
            page,
            "<tr class=\"above\"><td colspan=\"{wide}\"><div>{name}</div></td></tr><tr>"
        );
        for cell in &row.cells {
            let class = match Outcome::ALL.into_iter().find(|it| it.letter() == *cell) {
                Some(it) if settings.is_bad(it) => "bad",
                Some(Outcome::Recovered | Outcome::Reported) => "good",
                _ => "dim",
            };
            let _ = write!(page, "<td class=\"cell {class}\">{cell}</td>");
        }
        let _ = write!(page, "<td class=\"site\">{name}</td></tr>");
    }
    page.push_str("</tbody></table></div><p class=\"dim\">");
    let letters = Outcome::ALL.map(|it| format!("{} {}", it.letter(), it.text())).join(" · ");
    let _ = write!(page, "{letters} · . does not apply</p>");
    for it in told.iter().filter(|it| settings.is_shown(it)) {
        let _ = write!(
            page,
            "<h2><span class=\"bad\">{}</span>: {} {} at {}</h2><p>{}</p><pre>{}</pre><p>{}{}</p>",
            it.outcome.text(),
            escaped(&it.fault),
            it.mode.text(),
            escaped(&it.name),
            escaped(&it.evidence),
            escaped(&from_anywhere(&plan.asked.directory, &it.reproducer)),
            link(&it.log),
            it.recording.as_deref().map(|it| format!(" · {}", link(it))).unwrap_or_default(),
        );
    }
    page.push_str("</html>\n");
    page
}

/// A file beside the page.
fn link(path: &str) -> String {
    let path = escaped(path);
    format!("<a href=\"{path}\">{path}</a>")
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace(|it: char| it.is_control(), "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bad_is_what_the_user_says_and_a_flaky_one_has_its_bad_run() {
        use crate::sweep::{Mode, baseline::Baseline, observed::Site};
        let (id, call) = ("0000000a".to_owned(), "io_setup".to_owned());
        let site = Site { id, call, name: "io_setup from main".into(), ..Site::default() };
        let settings = Settings {
            modes: vec![Mode::Once, Mode::Always],
            fail_on: vec![Outcome::Reported],
            ..Settings::default()
        };
        let baseline = Baseline { sites: vec![site], ..Baseline::default() };
        let plan = Plan::make(&settings, baseline).unwrap();
        let reported = Told::of(&plan.points[0], Outcome::Reported);
        let recording = Some("recordings/002.aiotrace".to_owned());
        let flaky = Told { recording, ..Told::of(&plan.points[1], Outcome::Flaky) };
        let shown = page(&settings, &plan, &[&reported, &flaky]);
        assert!(shown.contains(r#"<td class="cell bad">r</td><td class="cell dim">~</td>"#));
        assert!(shown.contains("<h2><span class=\"bad\">reported</span>: EAGAIN once"));
        assert!(shown.contains("recordings/002.aiotrace</a>"), "{shown}");
    }

    #[test]
    fn a_name_cannot_become_a_part_of_the_page() {
        assert_eq!(escaped("<script a=\"&\">\u{7}"), "&lt;script a=&quot;&amp;&quot;&gt;\u{fffd}");
    }
}
