//! What was measured, as tables.

use super::{measure::Sample, tracer::Tracer, workload::Workload};

/// One tool on one workload: a row of a table.
pub struct Row {
    pub workload: Workload,
    pub tracer: &'static Tracer,
    /// One sample of each round.
    pub samples: Vec<Sample>,
    /// Why there are no samples, or fewer than rounds.
    pub problem: Option<String>,
}

impl Row {
    /// For instance "pair: strace".
    pub fn name(&self) -> String {
        format!("{}: {}", self.workload.name(), self.tracer.name)
    }

    /// The median of one value of the samples.
    pub fn median(&self, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(self.samples.iter().map(of))
    }

    /// How many times as long the workload took when traced, or (for IOPS) what share of them
    /// remained: the median over the rounds.
    pub fn ratio(&self) -> Option<f64> {
        self.median(|it| it.traced / it.untraced)
    }

    /// The events lost in all rounds; `None` if the tool does not say.
    pub fn lost(&self) -> Option<u64> {
        self.samples.iter().map(|it| it.lost).sum::<Option<u64>>()
    }

    fn line(&self) -> String {
        let name = self.tracer.name;
        let Some(traced) = self.median(|it| it.traced) else {
            let problem = self.problem.as_deref().unwrap_or("not measured");
            return format!("| {name} | {} |||||||", problem.replace('|', "/"));
        };
        let ratio = self.ratio().map_or_else(String::new, |it| self.relation(it));
        let lost = self.lost().map_or_else(|| "?".to_owned(), |it| it.to_string());
        let cost = |of: fn(&super::measure::Cost) -> f64| {
            let known = self.samples.iter().filter_map(|it| it.cost.as_ref().map(of));
            median(known).map_or_else(|| "-".to_owned(), thousands)
        };
        let own = median(self.samples.iter().filter_map(|it| it.own));
        let own = own.map_or_else(|| "-".to_owned(), times);
        format!(
            "| {name} | {} | {} | {ratio} | {own} | {lost} | {} | {} | {} |",
            thousands(traced),
            spread(self.samples.iter().map(|it| it.traced)),
            cost(|it| it.processor),
            cost(|it| it.memory),
            cost(|it| it.start),
        )
    }

    fn relation(&self, ratio: f64) -> String {
        if self.workload.is_rate() {
            format!("{:+.1} %", (ratio - 1.0) * 100.0)
        } else {
            times(ratio)
        }
    }
}

/// A table for each workload.
pub fn tables(rows: &[Row]) -> String {
    let mut out = String::new();
    for workload in Workload::ALL {
        let rows: Vec<&Row> = rows.iter().filter(|it| it.workload == workload).collect();
        if rows.is_empty() {
            continue;
        }
        let (unit, relation) =
            if workload.is_rate() { ("IOPS", "of untraced") } else { ("ns", "times untraced") };
        out.push_str(&format!(
            "{}:\n\n| | {unit} | min to max | {relation} | its own time | lost | tracer, ns | tracer, MiB | start, ms |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            workload.title()
        ));
        let untraced = || rows.iter().flat_map(|it| &it.samples).map(|it| it.untraced);
        if let Some(value) = median(untraced()) {
            out.push_str(&format!(
                "| untraced | {} | {} | | | | | | |\n",
                thousands(value),
                spread(untraced())
            ));
        }
        for row in rows {
            out.push_str(&row.line());
            out.push('\n');
        }
        out.push('\n');
    }
    out
}

fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}") } else { format!("{ratio:.0}") }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some(f64::midpoint(sorted[low], sorted[high]))
}

fn spread(values: impl Iterator<Item = f64>) -> String {
    let (low, high) =
        values.fold((f64::MAX, f64::MIN), |(low, high), it| (low.min(it), high.max(it)));
    format!("{} to {}", thousands(low), thousands(high))
}

/// `1234.5` as `1,234`.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{
        super::{measure::Cost, tracer::TRACERS},
        *,
    };

    fn row(workload: Workload, samples: &[(f64, f64)], problem: Option<&str>) -> Row {
        let sample = |(untraced, traced): &(f64, f64)| Sample {
            untraced: *untraced,
            traced: *traced,
            own: Some(2.5),
            lost: Some(0),
            cost: Some(Cost { processor: 1500.0, memory: 60.0, start: 250.0 }),
        };
        let samples = samples.iter().map(sample).collect();
        Row { workload, tracer: &TRACERS[2], samples, problem: problem.map(str::to_owned) }
    }

    #[test]
    fn the_ratio_is_of_each_round_and_the_median_of_these() {
        let row = row(Workload::Pair, &[(500.0, 1000.0), (1000.0, 1500.0), (600.0, 1500.0)], None);
        assert_eq!(row.ratio(), Some(2.0));
        let table = tables(&[row]);
        let line =
            "| aiotrace, text | 1,500 | 1,000 to 1,500 | 2.00 | 2.50 | 0 | 1,500 | 60 | 250 |";
        assert!(table.contains(line), "{table}");
        assert!(table.contains("| untraced | 600 | 500 to 1,000 | | | | | | |"), "{table}");
    }

    #[test]
    fn of_rates_the_loss_is_told_and_what_was_not_measured_is_said() {
        let fio = row(Workload::Disk, &[(1000.0, 985.0)], None);
        assert!(tables(&[fio]).contains("| -1.5 % |"));
        let none = row(Workload::Disk, &[], Some("not installed: apt-get install bpftrace"));
        assert!(tables(&[none]).contains("| not installed: apt-get install bpftrace |"));
    }
}
