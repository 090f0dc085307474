//! The answer of `aiotrace capacity` as text for people.

use std::fmt::Write as _;

use crate::{
    output::{
        Listed,
        json::{CapacityLine, NeedObject},
    },
    words::number::thousands,
};

impl Listed for CapacityLine {
    fn text(&self, _: bool) -> String {
        let mut out = String::new();
        let (nr, max) = (thousands(self.aio_nr), thousands(self.aio_max_nr));
        let _ = writeln!(out, "fs.aio-nr {nr} of {max}: {} are free", thousands(self.free));
        if !self.programs.is_empty() {
            self.table(&mut out);
        } else if self.need.is_none() {
            let _ = writeln!(out, "no {} holds AIO contexts now", self.by);
        }
        if self.others > 0 {
            let _ = writeln!(
                out,
                "{} other processes hold contexts ({}) and are in no {}",
                thousands(self.others),
                thousands(self.others_charge),
                self.by
            );
        }
        self.memory(&mut out);
        if let Some(need) = &self.need {
            self.need(&mut out, need);
        }
        out
    }
}

impl CapacityLine {
    fn table(&self, out: &mut String) {
        let heading = self.by.to_uppercase();
        let width = self.programs.iter().map(|it| it.program.chars().count()).max().unwrap_or(0);
        let width = width.max(heading.len()).max(16);
        let _ = writeln!(
            out,
            "\n{heading:<width$} {:>9} {:>8} {:>10} {:>10} {:>10} {:>12}",
            "INSTANCES", "CONTEXTS", "CHARGE", "ONE MORE", "FIT", "ITS RINGS"
        );
        for it in &self.programs {
            let _ = writeln!(
                out,
                "{:<width$} {:>9} {:>8} {:>10} {:>10} {:>10} {:>12}",
                it.program,
                thousands(it.instances),
                thousands(it.contexts),
                thousands(it.charge),
                thousands(it.one_more),
                thousands(it.fit),
                it.ring_bytes.map_or("?".to_owned(), bytes),
            );
        }
        let _ = writeln!(
            out,
            "\nONE MORE: what the instance that has most takes now; one that has just begun may take more later"
        );
    }

    fn memory(&self, out: &mut String) {
        let rings = &self.rings;
        let Some(as_much) = rings.bytes_for(self.aio_max_nr) else { return };
        let unread = match rings.unread {
            0 => String::new(),
            count => format!(" ({} more could not be read)", thousands(count)),
        };
        let _ = writeln!(
            out,
            "memory: a higher limit takes none; the rings of {} contexts{unread} take {} for a charge of {}, so \
             twice the limit, all of it used, would take {} more",
            thousands(rings.contexts),
            bytes(rings.bytes),
            thousands(rings.charge),
            bytes(as_much)
        );
    }

    fn need(&self, out: &mut String, need: &NeedObject) {
        let what = need.program.as_ref().map_or_else(
            || format!("{} that take {} each", thousands(need.instances), thousands(need.one_more)),
            |it| format!("{} more of {it}", thousands(need.instances)),
        );
        let memory =
            need.ring_bytes.map_or(String::new(), |it| format!(", and {} for rings", bytes(it)));
        let charge = thousands(need.charge);
        if need.fits {
            let left = self.free.saturating_sub(need.charge);
            let _ = writeln!(
                out,
                "{what} fit: they take {charge}{memory}; {} stay free",
                thousands(left)
            );
        } else {
            let fit = self.free / need.one_more.max(1);
            let _ = writeln!(
                out,
                "{what} do not fit, only {} do: they take {charge}{memory}, and need `sysctl -w fs.aio-max-nr={}` or more",
                thousands(fit),
                need.limit
            );
        }
    }
}

/// `12.5 MiB`
fn bytes(count: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| count >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", count as f64 / (1_u64 << shift) as f64),
        None => format!("{count} bytes"),
    }
}
