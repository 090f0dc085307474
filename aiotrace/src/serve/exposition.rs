//! The text of a scrape: samples, in the two formats that Prometheus reads. Names come from hostile processes; the
//! encoder escapes them.

use std::{borrow::Cow, collections::BTreeMap};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text},
    metrics::MetricType,
    registry::Registry,
};

use super::{
    label::Pair,
    metrics::{ALL, Kind, Metric},
};
use crate::counted::histogram::Histogram;

/// The format of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// The Prometheus text format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// The content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format that a client wants, by its Accept header: OpenMetrics if it asks for it by name, and does not prefer
    /// text.
    pub fn wanted(accept: &str) -> Self {
        let quality = |wanted: &str| {
            let of = |range: &str| {
                let mut parts = range.split(';').map(str::trim);
                if !parts.next()?.eq_ignore_ascii_case(wanted) {
                    return None;
                }
                let q = parts.find_map(|it| it.strip_prefix("q=")?.parse::<f32>().ok());
                Some(q.unwrap_or(1.0))
            };
            accept.split(',').filter_map(of).fold(0.0, f32::max)
        };
        let openmetrics = quality("application/openmetrics-text");
        if openmetrics > 0.0 && openmetrics >= quality("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

/// The value of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a gauge, or of a counter of seconds.
    Number(f64),
    /// Of a counter.
    Count(u64),
    /// Of a histogram.
    Durations(Buckets),
}

/// A histogram as Prometheus has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    sum: f64,
    count: u64,
    /// Upper bound in seconds, and how many durations are in the bucket.
    buckets: Vec<(f64, u64)>,
}

/// The first bound is 2 to this power, in nanoseconds: 1.024 us.
const FIRST_POWER: u32 = 10;
/// The bounds are powers of 4 of the first one, up to 17 s.
const BOUNDS: u32 = 13;

impl From<&Histogram> for Buckets {
    /// Exact: the kernel's buckets begin at each power of two.
    fn from(durations: &Histogram) -> Self {
        let bound = |index: u32| (1u64 << (FIRST_POWER + 2 * index)) as f64 / 1e9;
        let mut buckets: Vec<(f64, u64)> = (0..BOUNDS).map(|it| (bound(it), 0)).collect();
        buckets.push((f64::INFINITY, 0));
        for (power, count) in durations.powers() {
            // All of these durations are shorter than 2 to the power after it.
            let index = (power + 1).saturating_sub(FIRST_POWER).div_ceil(2).min(BOUNDS);
            buckets[index as usize].1 += count;
        }
        Self { sum: durations.total() as f64 / 1e9, count: durations.count(), buckets }
    }
}

/// All that one scrape tells.
#[derive(Clone, Debug, Default)]
pub struct Samples(BTreeMap<&'static str, Vec<(Vec<Pair>, Value)>>);

impl Samples {
    /// Adds a sample. `of`: the pairs of the process, if it is of one; `values`: those of the metric's own labels.
    pub fn add<const N: usize>(
        &mut self,
        metric: &'static Metric,
        of: Option<Vec<Pair>>,
        values: [Cow<'static, str>; N],
        value: Value,
    ) {
        debug_assert_eq!((of.is_some(), N), (metric.by_process, metric.labels.len()), "{metric:?}");
        let mut pairs = of.unwrap_or_default();
        pairs.extend(metric.labels.iter().copied().zip(values));
        self.0.entry(metric.name).or_default().push((pairs, value));
    }

    /// Adds a gauge without labels.
    pub fn number(&mut self, metric: &'static Metric, value: impl Into<f64>) {
        self.add(metric, None, [], Value::Number(value.into()));
    }

    /// The text.
    ///
    /// # Errors
    /// Never: the text is written to memory.
    pub fn text(self, exposition: Exposition) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        match exposition {
            Exposition::Text => prometheus_text::encode(&mut out, &registry)?,
            Exposition::OpenMetrics => text::encode(&mut out, &registry)?,
        }
        Ok(out)
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for metric in ALL {
            let Some(samples) = self.0.get(metric.name) else { continue };
            let kind = match metric.kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            // The text format takes a backslash and a line feed for the beginning of an escape; our help has neither.
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for (pairs, value) in samples {
                if metric.kind == Kind::Info {
                    family.encode_info(pairs)?;
                } else if pairs.is_empty() {
                    encode(&mut family, metric.kind, value)?;
                } else {
                    encode(&mut family.encode_family(pairs)?, metric.kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn encode(to: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> Result<(), std::fmt::Error> {
    let counter = kind == Kind::Counter;
    match value {
        Value::Count(it) if counter => to.encode_counter::<NoLabelSet, u64, f64>(it, None),
        Value::Number(it) if counter => to.encode_counter::<NoLabelSet, f64, f64>(it, None),
        Value::Count(it) => to.encode_gauge(it),
        Value::Number(it) => to.encode_gauge(it),
        Value::Durations(it) => {
            to.encode_histogram::<NoLabelSet>(it.sum, it.count, &it.buckets, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::{label::Labels, metrics};

    #[test]
    fn the_client_says_which_format_it_wants() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                          q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(Exposition::wanted(prometheus), Exposition::OpenMetrics);
        for accept in ["", "*/*", "text/html", "application/openmetrics-text;q=0", "q=;,;;q"] {
            assert_eq!(Exposition::wanted(accept), Exposition::Text, "{accept}");
        }
        let text = "text/plain;version=0.0.4, application/openmetrics-text;q=0.1";
        assert_eq!(Exposition::wanted(text), Exposition::Text);
    }

    fn sample(name: &str, exposition: Exposition) -> String {
        let mut samples = Samples::default();
        let label = Labels::default().of(1, Some(name.into()));
        let values = ["io_submit".into(), "EAGAIN".into()];
        samples.add(metrics::CALL_ERRORS, Some(label.pairs()), values, Value::Count(3));
        samples.number(metrics::AIO_NR, 7.0);
        samples.text(exposition).unwrap()
    }

    #[test]
    fn names_of_hostile_processes_stay_in_their_label() {
        for exposition in [Exposition::Text, Exposition::OpenMetrics] {
            let name = "a\" 1\naiotrace_aio_nr 9\\x{},=\u{e9}";
            let text = sample(name, exposition);
            let line =
                text.lines().find(|it| it.starts_with("aiotrace_call_errors_total{")).unwrap();
            assert_eq!(
                line,
                "aiotrace_call_errors_total{process=\"a\\\" 1\\naiotrace_aio_nr 9\\\\x{},=\u{e9}\",call=\"io_submit\",\
                 errno=\"EAGAIN\"} 3"
            );
            assert_eq!(text.matches("\naiotrace_aio_nr ").count(), 1, "{text}");
        }
    }

    #[test]
    fn each_format_is_as_it_is_specified() {
        let text = sample("fio", Exposition::Text);
        assert!(text.contains("# TYPE aiotrace_call_errors_total counter\n"), "{text}");
        assert!(!text.contains("# EOF"), "{text}");
        let text = sample("fio", Exposition::OpenMetrics);
        assert!(text.contains("# TYPE aiotrace_call_errors counter\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn buckets_are_exact_at_their_bounds() {
        let mut durations = Histogram::default();
        // One nanosecond below a bound, and at it.
        for nanos in [0, 1023, 1024, 4095, 4096, (1 << 34) - 1, 1 << 34, 1 << 35] {
            durations.record(nanos);
        }
        let it = Buckets::from(&durations);
        assert_eq!((it.count, it.buckets.len()), (8, 14));
        assert_eq!(it.buckets.iter().map(|it| it.1).sum::<u64>(), 8);
        let at = |index: usize| it.buckets[index].1;
        assert_eq!((at(0), at(1), at(2), at(12), at(13)), (2, 2, 1, 1, 2), "{it:?}");
        assert!((it.buckets[0].0 - 1.024e-6).abs() < 1e-15 && it.buckets[12].0 > 17.0);
        let mut samples = Samples::default();
        samples.add(metrics::CALL_DURATION, None, ["io_submit".into()], Value::Durations(it));
        let text = samples.text(Exposition::Text).unwrap();
        assert!(
            text.contains("_bucket{le=\"+Inf\",call=\"io_submit\"} 8")
                || text.contains("le=\"+Inf\"} 8"),
            "{text}"
        );
    }
}
