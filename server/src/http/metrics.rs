//! `GET /metrics`: Prometheus text (exposition format 0.0.4), written by hand.
//!
//! Names end in their unit; counters in `_total`. Labels take few values (routes, groups), never keys or statements.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::HttpResponse;
use pyralog_models::DatabaseStatus;

use super::{State, node_metrics};

/// Answers with all metrics.
pub async fn metrics(state: State) -> HttpResponse {
    let mut text = Exposition::default();
    process(&mut text, state.started.elapsed());
    database(&mut text, &state.database.status());
    state.counters.expose(&mut text);
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(text.out)
}

/// Kinds of paths, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/health`.
    Health,
    /// `/metrics`.
    Metrics,
    /// `/sql`.
    Sql,
    /// `/kv/…`.
    Kv,
    /// `/sparql`, `/rdf/…`.
    Rdf,
    /// Anything else.
    Other,
}

const ROUTES: [(Route, &str); 6] = [
    (Route::Health, "health"),
    (Route::Metrics, "metrics"),
    (Route::Sql, "sql"),
    (Route::Kv, "kv"),
    (Route::Rdf, "rdf"),
    (Route::Other, "other"),
];
/// Upper bounds of the latency histogram, in seconds.
const BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];

impl Route {
    /// The route of a path.
    pub fn of(path: &str) -> Self {
        match path {
            "/health" => Route::Health,
            "/metrics" => Route::Metrics,
            "/sql" => Route::Sql,
            path if path.starts_with("/kv/") => Route::Kv,
            path if path.starts_with("/sparql") || path.starts_with("/rdf/") => Route::Rdf,
            _ => Route::Other,
        }
    }
}

#[derive(Default)]
struct RouteCounts {
    /// By hundreds of the status.
    by_class: [AtomicU64; 5],
    /// Not cumulative; the last one is above all bounds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// Counts of HTTP requests.
#[derive(Default)]
pub struct HttpCounters {
    routes: [RouteCounts; ROUTES.len()],
    running: AtomicU64,
}

/// A request that runs: counted until it is dropped, however it ends.
pub struct Running(State);

impl Running {
    /// Takes over a request that [`HttpCounters::begin`] counted.
    pub fn new(state: &State) -> Self {
        Running(state.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.counters.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HttpCounters {
    /// A request begins; its [`Running`] ends it.
    pub fn begin(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// A response's head went out.
    pub fn record(&self, route: Route, status: u16, elapsed: Duration) {
        let counts = &self.routes[route as usize];
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        counts.by_class[class].fetch_add(1, Ordering::Relaxed);
        let seconds = elapsed.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        counts.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        counts
            .micros
            .fetch_add(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn expose(&self, text: &mut Exposition) {
        text.head("pyralog_http_requests_running", "gauge", "HTTP requests in work.");
        text.sample("pyralog_http_requests_running", &[], self.running.load(Ordering::Relaxed) as f64);
        text.head(
            "pyralog_http_requests_total",
            "counter",
            "HTTP requests by route and class of status.",
        );
        for (route, name) in ROUTES {
            for (class, count) in self.routes[route as usize].by_class.iter().enumerate() {
                let class = format!("{}xx", class + 1);
                text.sample(
                    "pyralog_http_requests_total",
                    &[("route", name), ("status", &class)],
                    count.load(Ordering::Relaxed) as f64,
                );
            }
        }
        text.head(
            "pyralog_http_request_duration_seconds",
            "histogram",
            "Time until a response's head went out.",
        );
        for (route, name) in ROUTES {
            let counts = &self.routes[route as usize];
            let mut total = 0;
            for (index, bucket) in counts.buckets.iter().enumerate() {
                total += bucket.load(Ordering::Relaxed);
                let bound = BOUNDS.get(index).map_or_else(|| "+Inf".to_owned(), f64::to_string);
                text.sample(
                    "pyralog_http_request_duration_seconds_bucket",
                    &[("route", name), ("le", &bound)],
                    total as f64,
                );
            }
            let seconds = counts.micros.load(Ordering::Relaxed) as f64 / 1e6;
            text.sample("pyralog_http_request_duration_seconds_sum", &[("route", name)], seconds);
            text.sample("pyralog_http_request_duration_seconds_count", &[("route", name)], total as f64);
        }
    }
}

fn process(text: &mut Exposition, uptime: Duration) {
    text.head("pyralog_uptime_seconds", "gauge", "Time since the start.");
    text.sample("pyralog_uptime_seconds", &[], uptime.as_secs_f64());
    if let Some(bytes) = resident_bytes() {
        text.head("process_resident_memory_bytes", "gauge", "Resident memory.");
        text.sample("process_resident_memory_bytes", &[], bytes as f64);
    }
}

/// Resident memory from the kernel; `None` where it does not say.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn database(text: &mut Exposition, status: &DatabaseStatus) {
    text.head("pyralog_info", "gauge", "Version and identity.");
    let node = status.node.node_id.to_string();
    text.sample(
        "pyralog_info",
        &[
            ("version", &status.version),
            ("node", &node),
            ("database", &status.node.database_id),
        ],
        1.0,
    );
    let single = [
        ("pyralog_sessions", "gauge", "Open sessions.", status.sessions),
        (
            "pyralog_statements_total",
            "counter",
            "Statements since the start.",
            status.statements,
        ),
        (
            "pyralog_statement_errors_total",
            "counter",
            "Statements that failed since the start.",
            status.statement_errors,
        ),
        (
            "pyralog_sparql_plans_reused_total",
            "counter",
            "Runs of kept plans of SPARQL queries since the start.",
            status.plans_reused,
        ),
        (
            "pyralog_distributed_queries_total",
            "counter",
            "Queries that were sent to several nodes since the start.",
            status.distributed_queries,
        ),
        (
            "pyralog_distributed_fallbacks_total",
            "counter",
            "Queries that were sent to several nodes, and that this one ran alone in the end, since the start.",
            status.distributed_fallbacks,
        ),
        (
            "pyralog_distributed_tasks",
            "gauge",
            "Tasks of distributed queries that this node runs or has not yet forgotten, its own and others'.",
            status.distributed_tasks,
        ),
        (
            "pyralog_query_memory_bytes",
            "gauge",
            "Query memory in use.",
            status.query_memory_bytes,
        ),
        (
            "pyralog_query_memory_limit_bytes",
            "gauge",
            "Query memory allowed.",
            status.query_memory_limit,
        ),
    ];
    for (name, kind, help, value) in single {
        text.head(name, kind, help);
        text.sample(name, &[], value as f64);
    }
    node_metrics::node(text, &status.node);
}

/// Text in Prometheus' format.
#[derive(Default)]
pub struct Exposition {
    out: String,
}

impl Exposition {
    /// Begins a metric: its samples follow.
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One value.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.out, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.out, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_escaped() {
        let mut text = Exposition::default();
        text.sample("m", &[("a", "x\"\\\n"), ("b", "y")], 1.5);
        text.sample("n", &[], 3.0);
        assert_eq!(text.out, "m{a=\"x\\\"\\\\\\n\",b=\"y\"} 1.5\nn 3\n");
    }

    #[test]
    fn histograms_are_cumulative() {
        let counters = HttpCounters::default();
        counters.record(Route::Sql, 200, Duration::from_micros(500));
        counters.record(Route::Sql, 404, Duration::from_secs(100));
        let mut text = Exposition::default();
        counters.expose(&mut text);
        for line in [
            "pyralog_http_requests_total{route=\"sql\",status=\"2xx\"} 1",
            "pyralog_http_requests_total{route=\"sql\",status=\"4xx\"} 1",
            "pyralog_http_request_duration_seconds_bucket{route=\"sql\",le=\"0.001\"} 1",
            "pyralog_http_request_duration_seconds_bucket{route=\"sql\",le=\"+Inf\"} 2",
            "pyralog_http_request_duration_seconds_count{route=\"sql\"} 2",
        ] {
            assert!(text.out.contains(&format!("{line}\n")), "{line} in\n{}", text.out);
        }
    }

    #[test]
    fn every_route_is_labelled() {
        for (index, (route, _)) in ROUTES.iter().enumerate() {
            assert_eq!(*route as usize, index);
        }
        assert_eq!(Route::of("/kv/b/k"), Route::Kv);
        assert_eq!(Route::of("/kvx"), Route::Other);
    }
}
