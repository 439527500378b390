//! What can be typed. Every option is text here, and optional: the configuration knows defaults, environment and file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Flags as the configuration takes them.
pub type Flags = Vec<(&'static str, Option<String>)>;

/// One database: tables, documents, graphs, RDF, key-value and tensors.
#[derive(Debug, Parser)]
#[command(name = "pyralog", version, arg_required_else_help = true, max_term_width = 110)]
#[command(
    after_help = "Every option also comes from the environment (PYRALOG_DATA_DIR for --data-dir) and from the file of --config (TOML).\n\
                        Exit codes: 0 success, 1 a failed operation, 2 wrong usage."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub process: ProcessFlags,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(ServeFlags),
    /// Run SQL: a shell, or statements from -c, -f or standard input.
    Sql(SqlFlags),
    /// Load files into a table.
    Import(ImportFlags),
    /// Write a table to a file.
    Export(ExportFlags),
    /// Load sample data into a directory of its own, show what can be asked, and remove it.
    Demo(DemoFlags),
    /// Read every file of a data directory and say what is damaged.
    Check(CheckFlags),
    /// Run several nodes on this machine as one cluster.
    Cluster(ClusterFlags),
    /// Make a backup (not in this version).
    Backup {
        /// Anything.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Restore a backup (not in this version).
    Restore {
        /// Anything.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print the version.
    Version,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct ProcessFlags {
    /// Configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log lines on standard error: text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Filter of the log, as RUST_LOG
    #[arg(long, global = true, value_name = "FILTER")]
    pub log_level: Option<String>,
}

impl ProcessFlags {
    /// As the configuration takes them.
    pub fn flags(&self) -> Flags {
        vec![("log-format", self.log_format.clone()), ("log-level", self.log_level.clone())]
    }
}

/// Options of opening a directory.
#[derive(Debug, Args)]
pub struct DatabaseFlags {
    /// Memory for memtables, caches and queries together, such as 4GB or 512MiB [default: 4GB]
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<String>,
    /// Threads of a query; 0: one a core [default: 0]
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,
    /// Data partitions of a new directory; 0: the default [default: 0]
    #[arg(long, value_name = "N")]
    pub partitions: Option<String>,
    /// Where sorts and joins spill [default: DATA/spill]
    #[arg(long, value_name = "DIR")]
    pub spill_dir: Option<String>,
    /// Folder that COPY and CREATE EXTERNAL TABLE may touch [default: anywhere]
    #[arg(long, value_name = "DIR")]
    pub file_root: Option<String>,
}

impl DatabaseFlags {
    fn flags(&self) -> Flags {
        vec![
            ("memory-limit", self.memory_limit.clone()),
            ("threads", self.threads.clone()),
            ("partitions", self.partitions.clone()),
            ("spill-dir", self.spill_dir.clone()),
            ("file-root", self.file_root.clone()),
        ]
    }
}

/// Where a client command finds its database.
#[derive(Debug, Args)]
pub struct TargetFlags {
    /// A server: grpc://host:port
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// A data directory to open in this process
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    #[command(flatten)]
    database: DatabaseFlags,
}

impl TargetFlags {
    fn flags(&self) -> Flags {
        let mut flags = vec![("url", self.url.clone()), ("data-dir", self.data_dir.clone())];
        flags.extend(self.database.flags());
        flags
    }
}

/// `pyralog cluster`.
#[derive(Debug, Clone, Args)]
pub struct ClusterFlags {
    /// The cluster's directory: configuration, logs and data of its nodes
    #[arg(long, global = true, value_name = "DIR", default_value = "pyralog-cluster")]
    pub dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub action: ClusterAction,
}

/// What `pyralog cluster` does.
#[derive(Debug, Clone, Subcommand)]
pub enum ClusterAction {
    /// Start the nodes, made if they are not there, and wait until every group has a leader
    Up {
        /// Nodes of a new cluster
        #[arg(long, value_name = "N", default_value_t = 3)]
        nodes: u64,
        /// First port of a new cluster; each node takes three of the ten from here on
        #[arg(long, value_name = "PORT")]
        base_port: Option<u16>,
        /// Remove the data when the cluster stops
        #[arg(long)]
        ephemeral: bool,
        /// Memory of each node
        #[arg(long, value_name = "SIZE", default_value = "1GB")]
        memory_limit: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the nodes
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Kill a node at once (SIGKILL)
    Kill {
        /// The node's id
        node: u64,
    },
    /// Start a node, after stopping it if it runs, and wait until it is ready
    Restart {
        /// The node's id
        node: u64,
    },
    /// Start one node more and wait until it is a member
    Add {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a node out of the cluster and stop it
    Remove {
        /// The node's id
        node: u64,
    },
    /// Print a node's log
    Logs {
        /// The node's id
        node: u64,
    },
    /// Stop all nodes; their data stays
    Stop,
    /// Stop all nodes and remove the directory
    Purge,
}

/// `pyralog serve`.
#[derive(Debug, Args)]
pub struct ServeFlags {
    /// The data directory, made if it is not there [default: pyralog-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address of Flight SQL [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    flight_addr: Option<String>,
    /// Address of HTTP [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    http_addr: Option<String>,
    /// Address for the other nodes of a cluster [default: none, the node is alone]
    #[arg(long, value_name = "ADDRESS")]
    peer_addr: Option<String>,
    /// Where other nodes reach this one [default: the peer address]
    #[arg(long, value_name = "HOST:PORT")]
    peer_advertise: Option<String>,
    /// This node's certificate for TLS between nodes, in PEM format [default: no TLS]
    #[arg(long, value_name = "FILE")]
    peer_tls_cert: Option<String>,
    /// The certificate's key, without a password
    #[arg(long, value_name = "FILE")]
    peer_tls_key: Option<String>,
    /// The authorities whose nodes are let in
    #[arg(long, value_name = "FILE")]
    peer_tls_ca: Option<String>,
    /// Bytes per second at which snapshots leave for other nodes; 0: as fast as it goes [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    snapshot_rate: Option<String>,
    /// Nodes of the cluster that an empty data directory is to join, with commas
    #[arg(long, value_name = "HOST:PORT,…")]
    join: Option<String>,
    /// The id that a node wants which joins [default: the next]
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// Listen on other than loopback addresses although there are neither TLS nor users
    #[arg(long)]
    insecure: bool,
    /// Largest body of an HTTP request [default: 64MB]
    #[arg(long, value_name = "SIZE")]
    max_request_size: Option<String>,
    /// Time in which an HTTP request's head and body must arrive [default: 30s]
    #[arg(long, value_name = "TIME")]
    request_timeout: Option<String>,
    /// Time limit of a statement over HTTP; 0: none [default: 0]
    #[arg(long, value_name = "TIME")]
    statement_timeout: Option<String>,
    /// Whether queries run on several nodes: off, auto (those that read much) or always [default: auto]
    #[arg(long, value_name = "MODE")]
    distributed: Option<String>,
    /// Origins whose web pages may use HTTP, with commas; *: all [default: none]
    #[arg(long, value_name = "ORIGIN,…")]
    cors_origins: Option<String>,
    /// URLs that SERVICE and LOAD may reach, each with all below it, with commas [default: none]
    #[arg(long, value_name = "URL,…")]
    sparql_fetch: Option<String>,
    /// Largest answer or document that SERVICE and LOAD read, unzipped [default: 64MB]
    #[arg(long, value_name = "SIZE")]
    sparql_fetch_size: Option<String>,
    /// How long a stop waits for what runs [default: 10s]
    #[arg(long, value_name = "TIME")]
    shutdown_timeout: Option<String>,
    /// Print the configuration in force, with where each value comes from, and end
    #[arg(long)]
    pub print_config: bool,
    #[command(flatten)]
    database: DatabaseFlags,
}

impl ServeFlags {
    /// As the configuration takes them.
    pub fn flags(&self) -> Flags {
        let mut flags = vec![
            ("data-dir", self.data_dir.clone()),
            ("flight-addr", self.flight_addr.clone()),
            ("http-addr", self.http_addr.clone()),
            ("peer-addr", self.peer_addr.clone()),
            ("peer-advertise", self.peer_advertise.clone()),
            ("peer-tls-cert", self.peer_tls_cert.clone()),
            ("peer-tls-key", self.peer_tls_key.clone()),
            ("peer-tls-ca", self.peer_tls_ca.clone()),
            ("snapshot-rate", self.snapshot_rate.clone()),
            ("join", self.join.clone()),
            ("node-id", self.node_id.clone()),
            ("insecure", self.insecure.then(|| "true".to_owned())),
            ("max-request-size", self.max_request_size.clone()),
            ("request-timeout", self.request_timeout.clone()),
            ("statement-timeout", self.statement_timeout.clone()),
            ("distributed", self.distributed.clone()),
            ("cors-origins", self.cors_origins.clone()),
            ("sparql-fetch", self.sparql_fetch.clone()),
            ("sparql-fetch-size", self.sparql_fetch_size.clone()),
            ("shutdown-timeout", self.shutdown_timeout.clone()),
        ];
        flags.extend(self.database.flags());
        flags
    }
}

/// `pyralog sql`.
#[derive(Debug, Args)]
pub struct SqlFlags {
    #[command(flatten)]
    target: TargetFlags,
    /// Statements to run; may be given several times
    #[arg(short = 'c', long = "command", value_name = "TEXT")]
    pub commands: Vec<String>,
    /// A file of statements to run; may be given several times, behind -c; `-` is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// box, csv, json, ndjson, markdown, line, arrow or parquet [default: box]
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Rows that box, markdown and line print before they only count; 0: all [default: 1000]
    #[arg(long, value_name = "N")]
    max_rows: Option<String>,
    /// History of the shell [default: ~/.pyralog_history]
    #[arg(long, value_name = "FILE")]
    history_file: Option<String>,
}

impl SqlFlags {
    /// As the configuration takes them.
    pub fn flags(&self) -> Flags {
        let mut flags = self.target.flags();
        flags.push(("format", self.format.clone()));
        flags.push(("max-rows", self.max_rows.clone()));
        flags.push(("history-file", self.history_file.clone()));
        flags
    }
}

/// `pyralog import`.
#[derive(Debug, Args)]
pub struct ImportFlags {
    #[command(flatten)]
    target: TargetFlags,
    /// The table to append to, made if it is not there
    #[arg(long, value_name = "TABLE")]
    into: Option<String>,
    /// parquet, csv, json, ndjson, arrow, nt, nq, ttl, trig, n3, rdf/xml or jsonld [default: by the file's name]
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Rows a batch [default: 8192]
    #[arg(long, value_name = "N")]
    batch_rows: Option<String>,
    /// Rows that types are inferred from [default: 10000]
    #[arg(long, value_name = "N")]
    sample_rows: Option<String>,
    /// Whether the first CSV line holds names [default: true]
    #[arg(long, value_name = "true|false")]
    header: Option<String>,
    /// What stands between CSV fields [default: ,]
    #[arg(long, value_name = "CHARACTER")]
    delimiter: Option<String>,
    /// Pass over what is wrong in RDF, and tell it at the end
    #[arg(long)]
    lenient: bool,
    /// Files; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

impl ImportFlags {
    /// As the configuration takes them.
    pub fn flags(&self) -> Flags {
        let mut flags = self.target.flags();
        flags.extend([
            ("into", self.into.clone()),
            ("format", self.format.clone()),
            ("batch-rows", self.batch_rows.clone()),
            ("sample-rows", self.sample_rows.clone()),
            ("header", self.header.clone()),
            ("delimiter", self.delimiter.clone()),
            ("lenient", self.lenient.then(|| "true".to_owned())),
        ]);
        flags
    }
}

/// `pyralog export`.
#[derive(Debug, Args)]
pub struct ExportFlags {
    #[command(flatten)]
    target: TargetFlags,
    /// The table to read
    #[arg(long, value_name = "TABLE")]
    from: Option<String>,
    /// parquet, csv, json, ndjson or arrow [default: by the output's name]
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<String>,
}

impl ExportFlags {
    /// As the configuration takes them.
    pub fn flags(&self) -> Flags {
        let mut flags = self.target.flags();
        flags.extend([
            ("from", self.from.clone()),
            ("format", self.format.clone()),
            ("output", self.output.clone()),
        ]);
        flags
    }
}

/// `pyralog check`.
#[derive(Debug, Args)]
pub struct CheckFlags {
    /// The data directory to read
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    #[command(flatten)]
    database: DatabaseFlags,
}

impl CheckFlags {
    /// As the configuration takes them.
    pub fn flags(&self) -> Flags {
        let mut flags = vec![("data-dir", self.data_dir.clone())];
        flags.extend(self.database.flags());
        flags
    }
}

/// `pyralog demo`.
#[derive(Debug, Args)]
pub struct DemoFlags {
    #[command(flatten)]
    database: DatabaseFlags,
}

impl DemoFlags {
    /// As the configuration takes them.
    pub fn flags(&self) -> Flags {
        self.database.flags()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::setting::COMMANDS;
    use clap::CommandFactory;

    /// Flags of a command that are not settings.
    const NOT_SETTINGS: &[&str] = &["config", "print-config", "command", "file", "help", "version"];

    #[test]
    fn flags_and_settings_are_the_same() {
        let mut root = Arguments::command();
        root.build();
        for command in COMMANDS {
            let typed = root.find_subcommand(command.name).unwrap();
            let flags: Vec<&str> = typed.get_arguments().filter_map(|argument| argument.get_long()).collect();
            for setting in command.settings() {
                assert!(flags.contains(&setting.name), "{} lacks --{}", command.name, setting.name);
            }
            for flag in flags {
                assert!(
                    command.has(flag) || NOT_SETTINGS.contains(&flag),
                    "--{flag} of {} is no setting",
                    command.name
                );
            }
        }
    }

    #[test]
    fn what_is_typed_arrives() {
        let arguments = Arguments::try_parse_from(["pyralog", "serve", "--data-dir", "d", "--insecure", "--memory-limit", "1GB"]).unwrap();
        let Command::Serve(serve) = arguments.command else { unreachable!() };
        let flags = serve.flags();
        let value = |name: &str| flags.iter().find(|(flag, _)| *flag == name).unwrap().1.clone();
        assert_eq!(value("data-dir"), Some("d".into()));
        assert_eq!(value("insecure"), Some("true".into()));
        assert_eq!(value("memory-limit"), Some("1GB".into()));
        assert_eq!(value("http-addr"), None);
        assert!(Arguments::try_parse_from(["pyralog", "cluster", "up", "--nodes", "3"]).is_ok());
        assert!(Arguments::try_parse_from(["pyralog", "serve", "--nonsense"]).is_err());
    }
}
