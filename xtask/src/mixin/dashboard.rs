//! The dashboard for Grafana: rows of panels, and what each asks.

use serde_json::{Value, json};

/// A panel: title, unit, and for each query the expression and the legend.
type Panel = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The rows. `$instance` and `$process` are what the reader chooses.
const ROWS: &[(&str, &[Panel])] = &[
    (
        "The limit",
        &[
            (
                "fs.aio-nr and its limit",
                "short",
                &[
                    ("aiotrace_aio_nr{instance=~\"$instance\"}", "{{instance}} fs.aio-nr"),
                    ("aiotrace_aio_max_nr{instance=~\"$instance\"}", "{{instance}} fs.aio-max-nr"),
                ],
            ),
            (
                "Taken, of the limit",
                "percentunit",
                &[(
                    "aiotrace_aio_nr{instance=~\"$instance\"} / aiotrace_aio_max_nr{instance=~\"$instance\"}",
                    "{{instance}}",
                )],
            ),
            (
                "Who holds it: the ten that hold most",
                "short",
                &[(
                    "topk(10, sum by (instance, process) (aiotrace_charge{instance=~\"$instance\", process=~\"$process\"}))",
                    "{{instance}} {{process}}",
                )],
            ),
            (
                "Not accounted for: other pid namespaces",
                "short",
                &[("aiotrace_unaccounted_charge{instance=~\"$instance\"}", "{{instance}}")],
            ),
            (
                "Growth in an hour",
                "short",
                &[(
                    "topk(10, 3600 * deriv(aiotrace_charge{instance=~\"$instance\", process=~\"$process\"}[1h]))",
                    "{{instance}} {{process}}",
                )],
            ),
        ],
    ),
    (
        "Rates",
        &[
            (
                "Requests by operation",
                "reqps",
                &[(
                    "sum by (instance, op) \
                     (rate(aiotrace_requests_total{instance=~\"$instance\", process=~\"$process\"}[$__rate_interval]))",
                    "{{instance}} {{op}}",
                )],
            ),
            (
                "Bytes of pread and pwrite",
                "Bps",
                &[(
                    "sum by (instance, op) \
                     (rate(aiotrace_request_bytes_total{instance=~\"$instance\", process=~\"$process\"}[$__rate_interval]))",
                    "{{instance}} {{op}}",
                )],
            ),
            (
                "Requests that failed, by errno",
                "reqps",
                &[(
                    "sum by (instance, process, errno) \
                     (rate(aiotrace_request_errors_total{instance=~\"$instance\", process=~\"$process\"}[$__rate_interval])) \
                     or vector(0)",
                    "{{instance}} {{process}} {{errno}}",
                )],
            ),
            (
                "EAGAIN of io_setup and io_submit",
                "reqps",
                &[(
                    "sum by (instance, process, call) (rate(aiotrace_call_errors_total{instance=~\"$instance\", \
                     process=~\"$process\", call=~\"io_setup|io_submit\", errno=\"EAGAIN\"}[$__rate_interval])) or vector(0)",
                    "{{instance}} {{process}} {{call}}",
                )],
            ),
        ],
    ),
    (
        "Latency",
        &[
            (
                "Requests: half are faster, 99 % are faster",
                "s",
                &[
                    (
                        "histogram_quantile(0.5, sum by (instance, op, le) \
                         (rate(aiotrace_request_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))",
                        "{{instance}} {{op}} p50",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (instance, op, le) \
                         (rate(aiotrace_request_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))",
                        "{{instance}} {{op}} p99",
                    ),
                ],
            ),
            (
                "Requests by duration",
                "reqps",
                &[(
                    "sum by (le) (rate(aiotrace_request_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval]))",
                    "{{le}}",
                )],
            ),
            (
                "io_submit that blocks: 99 % are faster",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (instance, le) (rate(aiotrace_call_duration_seconds_bucket{\
                     instance=~\"$instance\", call=\"io_submit\"}[$__rate_interval])))",
                    "{{instance}}",
                )],
            ),
        ],
    ),
    (
        "Health",
        &[
            (
                "Completions that are not reaped",
                "short",
                &[(
                    "sum by (instance, process) (aiotrace_unreaped_completions{instance=~\"$instance\", process=~\"$process\"})",
                    "{{instance}} {{process}}",
                )],
            ),
            (
                "Requests in flight",
                "short",
                &[(
                    "sum by (instance, process) (aiotrace_requests_in_flight{instance=~\"$instance\", process=~\"$process\"})",
                    "{{instance}} {{process}}",
                )],
            ),
            (
                "The context that was idle longest",
                "s",
                &[(
                    "topk(10, aiotrace_oldest_idle_context_seconds{instance=~\"$instance\", process=~\"$process\"})",
                    "{{instance}} {{process}}",
                )],
            ),
            (
                "Findings in an hour",
                "short",
                &[(
                    "sum by (instance, process, name, severity) \
                     (increase(aiotrace_findings_total{instance=~\"$instance\", process=~\"$process\"}[1h])) or vector(0)",
                    "{{instance}} {{process}} {{name}} ({{severity}})",
                )],
            ),
        ],
    ),
    (
        "aiotrace itself",
        &[
            (
                "Events lost, by cause",
                "short",
                &[(
                    "sum by (instance, cause) (increase(aiotrace_lost_events_total{instance=~\"$instance\"}[1h]))",
                    "{{instance}} {{cause}}",
                )],
            ),
            (
                "Processors taken",
                "percentunit",
                &[(
                    "rate(process_cpu_seconds_total{instance=~\"$instance\"}[$__rate_interval]) \
                     and on (instance) aiotrace_build_info",
                    "{{instance}}",
                )],
            ),
            (
                "Processors taken by probes",
                "percentunit",
                &[(
                    "rate(aiotrace_probe_seconds_total{instance=~\"$instance\"}[$__rate_interval]) or vector(0)",
                    "{{instance}}",
                )],
            ),
            (
                "Memory",
                "bytes",
                &[(
                    "process_resident_memory_bytes{instance=~\"$instance\"} and on (instance) aiotrace_build_info",
                    "{{instance}}",
                )],
            ),
            (
                "Names without series of their own",
                "short",
                &[("aiotrace_series_dropped{instance=~\"$instance\"}", "{{instance}}")],
            ),
            (
                "How old the values are",
                "s",
                &[(
                    "time() - aiotrace_last_read_timestamp_seconds{instance=~\"$instance\"}",
                    "{{instance}} {{tier}}",
                )],
            ),
        ],
    ),
];

/// The panels beside each other in a row.
const COLUMNS: usize = 3;
/// The width of the dashboard, and the height of a panel, in Grafana's units.
const WIDTH: usize = 24;
const HEIGHT: usize = 8;

/// The dashboard, as Grafana imports it.
pub fn dashboard() -> String {
    let (mut panels, mut y) = (Vec::new(), 0);
    let source = json!({"type": "prometheus", "uid": "$datasource"});
    for (title, row) in ROWS {
        let place = json!({"x": 0, "y": y, "w": WIDTH, "h": 1});
        panels.push(json!({"type": "row", "title": title, "gridPos": place, "collapsed": false}));
        y += 1;
        for (index, (title, unit, queries)) in row.iter().enumerate() {
            let width = WIDTH / COLUMNS;
            let (x, below) = (index % COLUMNS * width, index / COLUMNS * HEIGHT);
            let targets: Vec<Value> = ('A'..)
                .zip(*queries)
                .map(|(id, (expr, legend))| {
                    json!({"refId": id.to_string(), "expr": expr, "legendFormat": legend, "datasource": source})
                })
                .collect();
            panels.push(json!({
                "type": "timeseries",
                "title": title,
                "datasource": source,
                "gridPos": {"x": x, "y": y + below, "w": width, "h": HEIGHT},
                "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
                "targets": targets,
            }));
        }
        y += row.len().div_ceil(COLUMNS) * HEIGHT;
    }
    for (id, panel) in (1..).zip(&mut panels) {
        panel["id"] = Value::from(id);
    }
    let variable = |name: &str, label: &str| {
        json!({
            "name": label,
            "type": "query",
            "datasource": source,
            "query": format!("label_values({name}, {label})"),
            "refresh": 2,
            "multi": true,
            "includeAll": true,
            "allValue": ".+",
            "current": {"text": "All", "value": "$__all"},
        })
    };
    let dashboard = json!({
        "title": "Linux native AIO (aiotrace)",
        "uid": "aiotrace",
        "schemaVersion": 38,
        "tags": ["aiotrace"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            variable("aiotrace_aio_nr", "instance"),
            variable("aiotrace_charge", "process"),
        ]},
        "panels": panels,
    });
    format!("{dashboard:#}\n")
}

/// All expressions of the dashboard.
#[cfg(test)]
pub fn expressions() -> impl Iterator<Item = &'static str> {
    let panels = ROWS.iter().flat_map(|(_, row)| row.iter());
    panels.flat_map(|(_, _, queries)| queries.iter().map(|it| it.0))
}
