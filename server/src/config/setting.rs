//! The settings that exist: their names, defaults and meaning, per command.
//!
//! One table, so that flags, environment, file, `--print-config` and the reference say the same.

/// A setting. Its flag is `--name`, its variable `PYRALOG_NAME` with `_` for `-`, its key in the file `name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Name, with `-` between words.
    pub name: &'static str,
    /// Value where nobody says otherwise.
    pub default: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
}

const fn setting(name: &'static str, default: Option<&'static str>, help: &'static str) -> Setting {
    Setting { name, default, help }
}

/// Settings of the process itself, valid for every command.
pub const PROCESS: &[Setting] = &[
    setting("log-format", Some("text"), "log lines on stderr: text or json"),
    setting(
        "log-level",
        None,
        "filter of the log, as RUST_LOG: error, warn, info, debug, trace, or per module",
    ),
];

/// Settings of opening a data directory.
pub const DATABASE: &[Setting] = &[
    setting("memory-limit", Some("4GB"), "memory for memtables, caches and queries together"),
    setting("threads", Some("0"), "threads of a query; 0: one a core"),
    setting(
        "partitions",
        Some("0"),
        "data partitions of a new directory, a power of two up to 64; 0: one",
    ),
    setting("spill-dir", None, "where sorts and joins spill; default: DATA/spill"),
    setting(
        "file-root",
        None,
        "folder that COPY and CREATE EXTERNAL TABLE may touch; default: anywhere",
    ),
];

/// Settings of `pyralog serve` besides [`DATABASE`] and [`PROCESS`].
pub const SERVE: &[Setting] = &[
    setting("data-dir", Some("pyralog-data"), "the data directory, made if it is not there"),
    setting("flight-addr", Some("127.0.0.1:50051"), "address of Flight SQL"),
    setting("http-addr", Some("127.0.0.1:8080"), "address of HTTP"),
    setting(
        "peer-addr",
        None,
        "address for the other nodes of a cluster; default: none, the node is alone",
    ),
    setting(
        "peer-advertise",
        None,
        "host:port where other nodes reach this one; default: peer-addr",
    ),
    setting(
        "peer-tls-cert",
        None,
        "certificate of this node for TLS between nodes, and those between it and the authority (PEM); all three files or none",
    ),
    setting("peer-tls-key", None, "its key, without a password (PEM)"),
    setting("peer-tls-ca", None, "certificates of the authorities whose nodes are let in (PEM)"),
    setting(
        "snapshot-rate",
        Some("64MiB"),
        "bytes per second at which snapshots leave for other nodes, all together; 0: as fast as it goes",
    ),
    setting(
        "join",
        None,
        "host:port of nodes of the cluster that an empty data directory is to join, with commas",
    ),
    setting("node-id", None, "id that a node wants which joins; default: the next"),
    setting(
        "insecure",
        Some("false"),
        "listen on other than loopback addresses without TLS and users; peer-addr needs it only without peer-tls-cert",
    ),
    setting("max-request-size", Some("64MB"), "largest body of an HTTP request"),
    setting(
        "request-timeout",
        Some("30s"),
        "time in which an HTTP request's head and body must arrive",
    ),
    setting("statement-timeout", Some("0"), "time limit of a statement over HTTP; 0: none"),
    setting(
        "distributed",
        Some("auto"),
        "whether queries of a session run on several nodes, where it does not SET that itself: off, auto or always",
    ),
    setting("cors-origins", None, "origins whose web pages may use HTTP, with commas; `*`: all"),
    setting(
        "sparql-fetch",
        None,
        "URLs that SERVICE and LOAD may reach, each with all below it, with commas; default: none",
    ),
    setting(
        "sparql-fetch-size",
        Some("64MB"),
        "largest answer or document that they read, unzipped",
    ),
    setting("shutdown-timeout", Some("10s"), "how long a stop waits for what runs"),
];

/// Settings of where a client command finds its database.
pub const TARGET: &[Setting] = &[
    setting("url", None, "grpc://host:port of a server"),
    setting("data-dir", None, "a data directory to open in this process"),
];

/// Settings of `pyralog sql` besides [`TARGET`], [`DATABASE`] and [`PROCESS`].
pub const SQL: &[Setting] = &[
    setting(
        "format",
        None,
        "box, csv, json, ndjson, markdown, line, arrow or parquet; default: box",
    ),
    setting(
        "max-rows",
        Some("1000"),
        "rows that box, markdown and line print before they only count; 0: all",
    ),
    setting("history-file", None, "history of the shell; default: ~/.pyralog_history"),
];

/// Settings of `pyralog import` besides [`TARGET`], [`DATABASE`] and [`PROCESS`].
pub const IMPORT: &[Setting] = &[
    setting("into", None, "the table to append to, made if it is not there"),
    setting(
        "format",
        None,
        "parquet, csv, json, ndjson, arrow, nt, nq, ttl, trig, n3, rdf/xml or jsonld; default: by the file's name",
    ),
    setting("batch-rows", Some("8192"), "rows a batch"),
    setting("sample-rows", Some("10000"), "rows that types are inferred from"),
    setting("header", Some("true"), "whether the first CSV line holds names"),
    setting("delimiter", Some(","), "what stands between CSV fields"),
    setting(
        "lenient",
        Some("false"),
        "pass over what is wrong in RDF, and tell it at the end (not in RDF/XML and JSON-LD)",
    ),
];

/// Settings of `pyralog export` besides [`TARGET`], [`DATABASE`] and [`PROCESS`].
pub const EXPORT: &[Setting] = &[
    setting("from", None, "the table to read"),
    setting("format", None, "parquet, csv, json, ndjson or arrow; default: by the output's name"),
    setting("output", None, "the file to write; default: stdout"),
];

/// Settings of `pyralog check` besides [`DATABASE`] and [`PROCESS`].
pub const CHECK: &[Setting] = &[setting("data-dir", None, "the data directory to read")];

/// A command with settings of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandSettings {
    /// Name of the command and of its table in the file.
    pub name: &'static str,
    /// Its groups of settings.
    pub groups: &'static [&'static [Setting]],
}

/// All commands.
pub const COMMANDS: &[CommandSettings] = &[
    CommandSettings {
        name: "serve",
        groups: &[SERVE, DATABASE, PROCESS],
    },
    CommandSettings {
        name: "sql",
        groups: &[TARGET, SQL, DATABASE, PROCESS],
    },
    CommandSettings {
        name: "import",
        groups: &[TARGET, IMPORT, DATABASE, PROCESS],
    },
    CommandSettings {
        name: "export",
        groups: &[TARGET, EXPORT, DATABASE, PROCESS],
    },
    CommandSettings {
        name: "check",
        groups: &[CHECK, DATABASE, PROCESS],
    },
    CommandSettings {
        name: "demo",
        groups: &[DATABASE, PROCESS],
    },
];

impl CommandSettings {
    /// The settings of a command by name.
    pub fn of(name: &str) -> Option<&'static CommandSettings> {
        COMMANDS.iter().find(|command| command.name == name)
    }

    /// All its settings.
    pub fn settings(&self) -> impl Iterator<Item = &'static Setting> + use<> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// Whether it has a setting of this name.
    pub fn has(&self, name: &str) -> bool {
        self.settings().any(|setting| setting.name == name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_tells_every_setting_of_the_server() {
        let page = include_str!("../../../docs/src/reference/settings.md");
        for Setting { name, default, help } in CommandSettings::of("serve").unwrap().settings() {
            let default = default.map(|default| format!("`{default}`")).unwrap_or_default();
            let row = format!("| `{name}` | {default} | {help} |");
            assert!(page.contains(&row), "the reference lacks this row:\n{row}");
        }
    }
}
