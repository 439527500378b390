//! The process's log: lines on standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::Config;

/// Starts the log. `default_level` holds where nothing else is configured. The error is wrong usage.
pub fn start(config: &Config, default_level: &str) -> Result<(), String> {
    let level = config.text("log-level").unwrap_or(default_level);
    let filter = EnvFilter::try_new(level).map_err(|error| format!("log-level: `{level}`: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written is lost. To tell of it on standard error too would be a panic, and the end of what serves.
        .log_internal_errors(false);
    let started = match config.text("log-format") {
        Some("json") => builder.json().try_init(),
        Some("text") | None => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Some(other) => return Err(format!("log-format: `{other}` is neither text nor json")),
    };
    started.map_err(|error| format!("the log cannot start: {error}"))
}
