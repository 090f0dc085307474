//! One page with everything: it loads nothing, and has no scripts.

use std::fmt::Write as _;

use super::{
    journal::Told,
    plan::Plan,
    table::{columns, counts, rows},
};

/// Light and dark; a wide table scrolls by itself.
const STYLE: &str = "
:root{color-scheme:light dark;--bad:#b3261e;--good:#1b6e3c;--dim:#767676}
@media(prefers-color-scheme:dark){:root{--bad:#ff8a80;--good:#7bd88f;--dim:#9a9a9a}}
body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:75rem;padding:0 1rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.2rem .5rem;text-align:left;border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)}
td.cell{text-align:center;font-family:monospace;font-weight:bold}
.bad{color:var(--bad)}.good{color:var(--good)}.dim{color:var(--dim)}
pre{overflow-x:auto;padding:.5rem;border:1px solid color-mix(in srgb,currentColor 20%,transparent)}
";

/// The page.
pub fn page(plan: &Plan, told: &[&Told]) -> String {
    let mut page = String::new();
    let command = escaped(&plan.command.join(" "));
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>aiotrace sweep</title><style>{STYLE}</style>\
         <h1>aiotrace sweep</h1><pre>{command}</pre><p>{}</p>",
        escaped(&counts(told))
    );
    let columns = columns(plan);
    page.push_str("<div class=\"wide\"><table><thead><tr><th>site</th>");
    for (fault, mode) in &columns {
        let _ = write!(page, "<th>{} {}</th>", escaped(fault), mode.text());
    }
    page.push_str("</tr></thead><tbody>");
    for row in rows(plan, told) {
        let ids = escaped(&row.sites.join(" "));
        let _ =
            write!(page, "<tr><td>{} <small class=\"dim\">{ids}</small></td>", escaped(&row.name));
        for cell in row.cells {
            let class = match cell {
                'R' | 'r' => "good",
                'C' | 'L' | 'D' | 'H' | 'K' => "bad",
                _ => "dim",
            };
            let _ = write!(page, "<td class=\"cell {class}\">{cell}</td>");
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div><p class=\"dim\">");
    let letters =
        super::Outcome::ALL.map(|it| format!("{} {}", it.letter(), it.text())).join(" · ");
    let _ = write!(page, "{letters} · . does not apply</p>");
    for it in told.iter().filter(|it| it.outcome.is_bad()) {
        let _ = write!(
            page,
            "<h2><span class=\"bad\">{}</span>: {} {} at {}</h2><p>{}</p><pre>{}</pre><p class=\"dim\">{} {}</p>",
            it.outcome.text(),
            escaped(&it.fault),
            it.mode.text(),
            escaped(&it.name),
            escaped(&it.evidence),
            escaped(&it.reproducer),
            escaped(&it.log),
            escaped(it.recording.as_deref().unwrap_or_default()),
        );
    }
    page.push_str("</html>\n");
    page
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace(|it: char| it.is_control(), "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_become_a_part_of_the_page() {
        assert_eq!(escaped("<script a=\"&\">\u{7}"), "&lt;script a=&quot;&amp;&quot;&gt;\u{fffd}");
    }
}
