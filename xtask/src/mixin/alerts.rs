//! The alerts, and for each of them series with which it fires, and series with which it does not.

/// An alert.
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// When it is on.
    pub expr: &'static str,
    /// For how long that must be so.
    pub wait: &'static str,
    /// `critical`, `warning` or `info`.
    pub severity: &'static str,
    /// What is wrong; with templates of Prometheus.
    pub summary: &'static str,
    /// What to do.
    pub todo: &'static str,
    /// How it is tested.
    pub test: Test,
}

/// How an alert is tested: at the end of `lasts`.
pub struct Test {
    /// How long the series last, and how far apart the values are.
    pub lasts: &'static str,
    /// The time from one value to the next.
    pub interval: &'static str,
    /// Series with which it fires: name and labels, and values.
    pub fires: &'static [(&'static str, &'static str)],
    /// The labels of the alert then, beside its name and severity.
    pub labels: &'static [(&'static str, &'static str)],
    /// Its summary then.
    pub summary: &'static str,
    /// Series with which it does not fire.
    pub quiet: &'static [(&'static str, &'static str)],
}

/// All alerts.
pub const ALERTS: &[Alert] = &[
    Alert {
        name: "AioLimitNear",
        expr: "aiotrace_aio_nr / aiotrace_aio_max_nr > 0.8",
        wait: "10m",
        severity: "warning",
        summary: "{{ $labels.instance }}: {{ $value | humanizePercentage }} of fs.aio-max-nr are taken\
                  {{ with printf \"topk(1, sum by (process) (aiotrace_charge{instance='%s'}))\" $labels.instance | query }}, \
                  most by {{ . | first | label \"process\" }}{{ end }}",
        todo: "io_setup fails with EAGAIN when the rest is taken. `aiotrace ls` on the machine says who holds it; raise \
               fs.aio-max-nr, or end what leaks.",
        test: Test {
            lasts: "20m",
            interval: "1m",
            fires: &[
                ("aiotrace_aio_nr{instance=\"a\"}", "60000x20"),
                ("aiotrace_aio_max_nr{instance=\"a\"}", "65536x20"),
                ("aiotrace_charge{instance=\"a\", process=\"leaky\"}", "50000x20"),
                ("aiotrace_charge{instance=\"a\", process=\"fio\"}", "10000x20"),
                ("aiotrace_charge{instance=\"b\", process=\"more\"}", "60000x20"),
            ],
            labels: &[("instance", "a")],
            summary: "a: 91.55% of fs.aio-max-nr are taken, most by leaky",
            quiet: &[
                ("aiotrace_aio_nr{instance=\"a\"}", "40000x20"),
                ("aiotrace_aio_max_nr{instance=\"a\"}", "65536x20"),
            ],
        },
    },
    Alert {
        name: "AioChargeGrowing",
        expr: "deriv(aiotrace_charge[6h]) * 86400 > on (instance) group_left () 0.1 * aiotrace_aio_max_nr \
               and on (instance) predict_linear(aiotrace_aio_nr[6h], 86400) > aiotrace_aio_max_nr",
        wait: "1h",
        severity: "warning",
        summary: "{{ $labels.instance }}: {{ $labels.process }} takes ever more of fs.aio-max-nr, which is used up within a day",
        todo: "`aiotrace attach -q -p NAME --duration 30s` on the machine tells of context-growth and where the contexts \
               are made.",
        test: Test {
            lasts: "8h",
            interval: "5m",
            fires: &[
                ("aiotrace_aio_nr{instance=\"a\"}", "20000+200x96"),
                ("aiotrace_aio_max_nr{instance=\"a\"}", "65536x96"),
                ("aiotrace_charge{instance=\"a\", process=\"leaky\"}", "10000+200x96"),
                ("aiotrace_charge{instance=\"a\", process=\"fio\"}", "10000x96"),
            ],
            labels: &[("instance", "a"), ("process", "leaky")],
            summary: "a: leaky takes ever more of fs.aio-max-nr, which is used up within a day",
            quiet: &[
                ("aiotrace_aio_nr{instance=\"a\"}", "20000+1x96"),
                ("aiotrace_aio_max_nr{instance=\"a\"}", "65536x96"),
                ("aiotrace_charge{instance=\"a\", process=\"slow\"}", "10000+1x96"),
            ],
        },
    },
    Alert {
        name: "AioSetupDenied",
        expr: "increase(aiotrace_call_errors_total{call=\"io_setup\", errno=\"EAGAIN\"}[10m]) > 0 \
               or (aiotrace_call_errors_total{call=\"io_setup\", errno=\"EAGAIN\"} \
               unless aiotrace_call_errors_total{call=\"io_setup\", errno=\"EAGAIN\"} offset 10m) > 0",
        wait: "0m",
        severity: "critical",
        summary: "{{ $labels.instance }}: {{ $labels.process }} got no context: fs.aio-max-nr is used up",
        todo: "`aiotrace ls` on the machine says who holds it; docs/how-to/io_setup-eagain.md says what to do.",
        test: Test {
            lasts: "5m",
            interval: "1m",
            // The first error makes the series.
            fires: &[(
                "aiotrace_call_errors_total{instance=\"a\", process=\"db\", call=\"io_setup\", errno=\"EAGAIN\"}",
                "_x3 1x3",
            )],
            labels: &[
                ("instance", "a"),
                ("process", "db"),
                ("call", "io_setup"),
                ("errno", "EAGAIN"),
            ],
            summary: "a: db got no context: fs.aio-max-nr is used up",
            quiet: &[(
                "aiotrace_call_errors_total{instance=\"a\", process=\"db\", call=\"io_submit\", errno=\"EAGAIN\"}",
                "0+5x5",
            )],
        },
    },
    Alert {
        name: "AioUnreaped",
        expr: "(min_over_time(aiotrace_unreaped_completions[15m]) > 0 and on (instance) aiotrace_source_info{tier=\"count\"}) \
               unless on (instance, process) \
               increase(aiotrace_calls_total{call=~\"io_getevents|io_pgetevents\"}[15m]) > 0",
        wait: "5m",
        severity: "warning",
        summary: "{{ $labels.instance }}: {{ $labels.process }} has {{ $value }} completions that nobody reaps",
        todo: "`aiotrace explain unreaped-completions` says what it means; `aiotrace attach -q -p NAME --duration 12s` \
               what the threads wait for.",
        test: Test {
            lasts: "30m",
            interval: "1m",
            fires: &[
                ("aiotrace_unreaped_completions{instance=\"a\", process=\"stuck\"}", "7x30"),
                ("aiotrace_unreaped_completions{instance=\"a\", process=\"busy\"}", "90x30"),
                (
                    "aiotrace_calls_total{instance=\"a\", process=\"busy\", call=\"io_getevents\"}",
                    "0+100x30",
                ),
                ("aiotrace_source_info{instance=\"a\", tier=\"count\"}", "1x30"),
            ],
            labels: &[("instance", "a"), ("process", "stuck")],
            summary: "a: stuck has 7 completions that nobody reaps",
            quiet: &[
                ("aiotrace_unreaped_completions{instance=\"a\", process=\"busy\"}", "90 0 90x28"),
                (
                    "aiotrace_calls_total{instance=\"a\", process=\"busy\", call=\"io_getevents\"}",
                    "0+100x30",
                ),
                ("aiotrace_source_info{instance=\"a\", tier=\"count\"}", "1x30"),
            ],
        },
    },
    Alert {
        name: "AioErrors",
        expr: "sum by (instance, process, errno) (rate(aiotrace_request_errors_total[10m])) \
               / on (instance, process) group_left () \
               sum by (instance, process) (rate(aiotrace_requests_total[10m])) > 0.01",
        wait: "10m",
        severity: "warning",
        summary: "{{ $labels.instance }}: {{ $value | humanizePercentage }} of the requests of {{ $labels.process }} fail \
                  with {{ $labels.errno }}",
        todo: "`aiotrace attach --only error -p NAME` on the machine shows them, with file and offset.",
        test: Test {
            lasts: "30m",
            interval: "1m",
            fires: &[
                (
                    "aiotrace_request_errors_total{instance=\"a\", process=\"db\", errno=\"EIO\"}",
                    "0+6x30",
                ),
                (
                    "aiotrace_requests_total{instance=\"a\", process=\"db\", op=\"pread\"}",
                    "0+60x30",
                ),
                (
                    "aiotrace_requests_total{instance=\"a\", process=\"db\", op=\"pwrite\"}",
                    "0+60x30",
                ),
            ],
            labels: &[("instance", "a"), ("process", "db"), ("errno", "EIO")],
            summary: "a: 5% of the requests of db fail with EIO",
            quiet: &[
                (
                    "aiotrace_request_errors_total{instance=\"a\", process=\"db\", errno=\"EIO\"}",
                    "0+6x30",
                ),
                (
                    "aiotrace_requests_total{instance=\"a\", process=\"db\", op=\"pread\"}",
                    "0+6000x30",
                ),
            ],
        },
    },
    Alert {
        name: "AiotraceLosing",
        expr: "increase(aiotrace_lost_events_total[15m]) > 0",
        wait: "15m",
        severity: "warning",
        summary: "{{ $labels.instance }}: aiotrace loses events ({{ $labels.cause }}): its counters are too low",
        todo: "docs/reference/metrics.md says what each cause means.",
        test: Test {
            lasts: "40m",
            interval: "1m",
            fires: &[(
                "aiotrace_lost_events_total{instance=\"a\", cause=\"skipped_runs\"}",
                "0+3x40",
            )],
            labels: &[("instance", "a"), ("cause", "skipped_runs")],
            summary: "a: aiotrace loses events (skipped_runs): its counters are too low",
            quiet: &[(
                "aiotrace_lost_events_total{instance=\"a\", cause=\"skipped_runs\"}",
                "5x40",
            )],
        },
    },
    Alert {
        name: "AiotraceSeriesDropped",
        expr: "aiotrace_series_dropped > 0",
        wait: "1h",
        severity: "info",
        summary: "{{ $labels.instance }}: {{ $value }} names of processes have no series of their own",
        todo: "The process other has them. More fit with --max-series; names that are made up as a program runs never fit.",
        test: Test {
            lasts: "2h",
            interval: "5m",
            fires: &[("aiotrace_series_dropped{instance=\"a\"}", "3x24")],
            labels: &[("instance", "a")],
            summary: "a: 3 names of processes have no series of their own",
            quiet: &[("aiotrace_series_dropped{instance=\"a\"}", "0x24")],
        },
    },
    Alert {
        name: "AiotraceDown",
        expr: "up{job=\"aiotrace\"} == 0",
        wait: "5m",
        severity: "warning",
        summary: "{{ $labels.instance }}: aiotrace serve does not answer",
        todo: "`systemctl status aiotrace` and `journalctl -u aiotrace` on the machine; `aiotrace doctor` says what works \
               there.",
        test: Test {
            lasts: "10m",
            interval: "1m",
            fires: &[("up{job=\"aiotrace\", instance=\"a\"}", "0x10")],
            labels: &[("instance", "a"), ("job", "aiotrace")],
            summary: "a: aiotrace serve does not answer",
            quiet: &[
                ("up{job=\"aiotrace\", instance=\"a\"}", "1x10"),
                ("up{job=\"other\", instance=\"a\"}", "0x10"),
            ],
        },
    },
];

/// A text as YAML has it: JSON's strings are YAML's, too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The rules, for `rule_files`.
pub fn rules() -> String {
    let mut out = String::from("groups:\n  - name: aiotrace\n    rules:\n");
    for it in ALERTS {
        out.push_str(&format!(
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          severity: {}\n        \
             annotations:\n          summary: {}\n          description: {}\n",
            it.name,
            quoted(it.expr),
            it.wait,
            it.severity,
            quoted(it.summary),
            quoted(it.todo)
        ));
    }
    out
}

/// The tests, for `promtool test rules`.
pub fn tests() -> String {
    let mut out = String::from("rule_files:\n  - alerts.yaml\nevaluation_interval: 1m\ntests:\n");
    for it in ALERTS {
        for fires in [true, false] {
            let series = if fires { it.test.fires } else { it.test.quiet };
            out.push_str(&format!("  - interval: {}\n    input_series:\n", it.test.interval));
            for (name, values) in series {
                out.push_str(&format!(
                    "      - series: {}\n        values: {}\n",
                    quoted(name),
                    quoted(values)
                ));
            }
            out.push_str(&format!(
                "    alert_rule_test:\n      - eval_time: {}\n        alertname: {}\n",
                it.test.lasts, it.name
            ));
            if !fires {
                out.push_str("        exp_alerts: []\n");
                continue;
            }
            out.push_str(&format!(
                "        exp_alerts:\n          - exp_labels:\n              severity: {}\n",
                it.severity
            ));
            for (name, value) in it.test.labels {
                out.push_str(&format!("              {name}: {value}\n"));
            }
            out.push_str(&format!(
                "            exp_annotations:\n              summary: {}\n              description: {}\n",
                quoted(it.test.summary),
                quoted(it.todo)
            ));
        }
    }
    out
}
