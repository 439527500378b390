//! A session's settings: our own few, and DataFusion's under their `datafusion.` names.

use std::sync::Arc;
use std::time::Duration;

use super::{Isolation, Session};
use crate::distributed::Mode;
use crate::error::{Error, Result, nearest};

/// Our own settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// Longest time a statement may take; `None`: no limit.
    pub(crate) statement_timeout: Option<Duration>,
    /// Name the client gives itself.
    pub(crate) application_name: String,
    /// How fresh queries are.
    pub(crate) read_consistency: ReadConsistency,
    /// Whether queries run on several nodes.
    pub(crate) distributed: Mode,
    /// Of transactions that do not name one, and of single statements.
    pub(crate) isolation: Isolation,
}

/// What a query sees at least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ReadConsistency {
    /// Everything that was acknowledged before, by any node: the leaders are asked.
    #[default]
    Linearizable,
    /// What this node has applied: one state of the database, perhaps an older one. Nobody is asked.
    Local,
}

/// A setting as `SHOW` prints it.
pub(crate) struct SettingRow {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) default: String,
    pub(crate) source: &'static str,
    pub(crate) description: String,
}

const OWN: [(&str, &str, &str); 6] = [
    (
        "statement_timeout",
        "0",
        "longest time of a statement in milliseconds; 0 is no limit",
    ),
    ("application_name", "", "name the client gives itself"),
    ("timezone", "", "time zone of timestamps without one; empty is UTC"),
    (
        "transaction_isolation",
        "snapshot",
        "isolation of transactions that do not name it, and of single statements: snapshot or serializable",
    ),
    (
        "read_consistency",
        "linearizable",
        "linearizable: queries see all that was acknowledged before; local: what this node has, without asking others",
    ),
    (
        "distributed",
        "auto",
        "queries of a cluster with several partitions: off: run on the node that is asked; auto: those that read much on several nodes; \
         always: all that can",
    ),
];

const TIME_ZONE: &str = "datafusion.execution.time_zone";

/// Every setting with its value, default and where the value came from.
pub(crate) fn all(session: &Session) -> Vec<SettingRow> {
    let mut rows: Vec<SettingRow> = OWN
        .iter()
        .map(|(name, default, description)| {
            let value = get(session, name).unwrap_or_default();
            let default = default_of(session, name, default);
            row((*name).to_owned(), value, default.to_owned(), (*description).to_owned())
        })
        .collect();
    let defaults = session.engine().base_state.config_options().entries();
    let current = session.inner.state.read().config_options().entries();
    for (entry, default) in current.into_iter().zip(defaults) {
        let value = entry.value.unwrap_or_default();
        rows.push(row(
            entry.key,
            value,
            default.value.unwrap_or_default(),
            entry.description.to_owned(),
        ));
    }
    rows
}

/// What a setting is where the session has not set it: one may be told by who starts the server.
fn default_of(session: &Session, name: &str, default: &'static str) -> &'static str {
    match name {
        "distributed" => session.engine().config.distributed.name(),
        _ => default,
    }
}

fn row(name: String, value: String, default: String, description: String) -> SettingRow {
    let source = if value == default { "default" } else { "session" };
    SettingRow {
        name,
        value,
        default,
        source,
        description,
    }
}

/// A setting's value.
pub(crate) fn get(session: &Session, name: &str) -> Result<String> {
    let name = normalize(name);
    match name.as_str() {
        "statement_timeout" => {
            let timeout = session.inner.settings.read().statement_timeout;
            Ok(timeout.map_or(0, |t| t.as_millis()).to_string())
        }
        "application_name" => Ok(session.inner.settings.read().application_name.clone()),
        "transaction_isolation" => Ok(match session.isolation_now() {
            Isolation::Snapshot => "snapshot".to_owned(),
            Isolation::Serializable => "serializable".to_owned(),
        }),
        "read_consistency" => Ok(match session.inner.settings.read().read_consistency {
            ReadConsistency::Linearizable => "linearizable".to_owned(),
            ReadConsistency::Local => "local".to_owned(),
        }),
        "distributed" => Ok(session.inner.settings.read().distributed.name().to_owned()),
        _ => {
            let state = session.inner.state.read();
            let entry = state.config_options().entries().into_iter().find(|e| e.key == name);
            entry.map(|e| e.value.unwrap_or_default()).ok_or_else(|| unknown(session, &name))
        }
    }
}

/// Sets a setting.
pub(crate) fn set(session: &Session, name: &str, value: &str) -> Result<()> {
    let name = normalize(name);
    match name.as_str() {
        "statement_timeout" => {
            let timeout = parse_duration(value)?;
            session.inner.settings.write().statement_timeout = timeout;
            Ok(())
        }
        "application_name" => {
            session.inner.settings.write().application_name = value.to_owned();
            Ok(())
        }
        "read_consistency" => {
            let wanted = match value.to_lowercase().as_str() {
                "linearizable" => ReadConsistency::Linearizable,
                "local" => ReadConsistency::Local,
                other => {
                    return Err(Error::invalid(
                        "22023",
                        format!("read_consistency is linearizable or local, not {other}"),
                    ));
                }
            };
            session.inner.settings.write().read_consistency = wanted;
            Ok(())
        }
        "distributed" => {
            let mode = Mode::of(value);
            let mode = mode.ok_or_else(|| Error::invalid("22023", format!("distributed is off, auto or always, not {value}")))?;
            session.inner.settings.write().distributed = mode;
            Ok(())
        }
        "transaction_isolation" => {
            let wanted = match value.to_lowercase().as_str() {
                // What a weaker level promises, snapshot isolation gives as well.
                "snapshot" | "repeatable read" | "read committed" | "read uncommitted" => Isolation::Snapshot,
                "serializable" => Isolation::Serializable,
                other => {
                    return Err(Error::invalid(
                        "22023",
                        format!("transaction_isolation is snapshot or serializable, not {other}"),
                    ));
                }
            };
            match session.in_transaction() {
                true => session.set_isolation(wanted)?,
                false => session.inner.settings.write().isolation = wanted,
            }
            Ok(())
        }
        _ => {
            let mut state = session.inner.state.write();
            if !state.config_options().entries().iter().any(|e| e.key == name) {
                drop(state);
                return Err(unknown(session, &name));
            }
            Ok(Arc::make_mut(&mut state).config_mut().options_mut().set(&name, value)?)
        }
    }
}

/// Gives a setting its default back.
pub(crate) fn reset(session: &Session, name: &str) -> Result<()> {
    let name = normalize(name);
    if let Some((own, default, _)) = OWN.iter().find(|(own, _, _)| *own == name) {
        return set(session, own, default_of(session, own, default));
    }
    let default = session
        .engine()
        .base_state
        .config_options()
        .entries()
        .into_iter()
        .find(|e| e.key == name);
    match default {
        Some(entry) => set(session, &name, &entry.value.unwrap_or_default()),
        None => Err(unknown(session, &name)),
    }
}

fn normalize(name: &str) -> String {
    match name.to_lowercase().as_str() {
        "timezone" | "time zone" | "time.zone" => TIME_ZONE.to_owned(),
        other => other.to_owned(),
    }
}

/// Milliseconds, or a number with `ms`, `s` or `min`.
fn parse_duration(value: &str) -> Result<Option<Duration>> {
    let text = value.trim().to_lowercase();
    let (number, scale) = match text.as_str() {
        t if t.ends_with("ms") => (&t[..t.len() - 2], 1),
        t if t.ends_with("min") => (&t[..t.len() - 3], 60_000),
        t if t.ends_with('s') => (&t[..t.len() - 1], 1_000),
        t => (t, 1),
    };
    let amount: u64 = number
        .trim()
        .parse()
        .map_err(|_| Error::invalid("22023", format!("{value:?} is no duration")).with_hint("write 500, 500ms, 30s or 5min"))?;
    Ok((amount > 0).then(|| Duration::from_millis(amount.saturating_mul(scale))))
}

fn unknown(session: &Session, name: &str) -> Error {
    let error = Error::invalid("42704", format!("setting {name} does not exist"));
    let entries = session.engine().base_state.config_options().entries();
    let names = entries.iter().map(|e| e.key.as_str()).chain(OWN.iter().map(|(n, _, _)| *n));
    match nearest(name, names) {
        Some(near) => error.with_hint(format!("did you mean {near}?")),
        None => error.with_hint("SHOW ALL lists every setting"),
    }
}
