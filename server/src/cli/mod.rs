//! The command line: what is typed becomes a configuration, and the configuration a run of one command.
//!
//! Exit codes: 0 success, 1 a failed operation, 2 wrong usage.

pub mod arguments;
mod commands;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::config::{CommandSettings, Config, ConfigFile};
use arguments::{Arguments, Command};

/// Threads of the process's runtime have so much stack: plans of deep statements recurse (within the parser's own limit).
pub(crate) const STACK_BYTES: usize = 8 << 20;

/// What a server logs: its own life; of the libraries only what needs somebody.
const SERVER_LOG: &str = "info,openraft=error,actix_server=warn";

/// Why a command did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CliError {
    /// Wrong usage: exit code 2.
    Usage(String),
    /// A failed operation: exit code 1.
    Failed(String),
    /// A failed operation that has said why already.
    Reported,
}

impl CliError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Usage(_) => 2,
            CliError::Failed(_) | CliError::Reported => 1,
        }
    }
}

/// Runs the process's command line.
pub fn main() -> ExitCode {
    // Wrong usage, `--help` and `--version` end here, with clap's codes 2 and 0.
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let CliError::Usage(problem) | CliError::Failed(problem) = &error {
                // Where standard error is closed, the exit code has to do.
                let _told = writeln!(std::io::stderr(), "error: {problem}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<(), CliError> {
    let Arguments { command, process } = arguments;
    let (name, mut flags) = match &command {
        Command::Version => {
            println!("pyralog {}", env!("CARGO_PKG_VERSION"));
            return Ok(());
        }
        Command::Cluster(cluster) => return crate::cluster::run(cluster.clone()).map_err(CliError::Failed),
        Command::Backup { .. } => return Err(unsupported("backup")),
        Command::Restore { .. } => return Err(unsupported("restore")),
        Command::Serve(serve) => ("serve", serve.flags()),
        Command::Sql(sql) => ("sql", sql.flags()),
        Command::Import(import) => ("import", import.flags()),
        Command::Export(export) => ("export", export.flags()),
        Command::Check(check) => ("check", check.flags()),
        Command::Demo(demo) => ("demo", demo.flags()),
    };
    flags.extend(process.flags());
    let settings = CommandSettings::of(name).ok_or_else(|| CliError::Failed(format!("{name} has no settings")))?;
    let environment = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
    let path = process.config.clone().or_else(|| environment("PYRALOG_CONFIG").map(Into::into));
    let file = path.map(|path| ConfigFile::read(&path)).transpose().map_err(CliError::Usage)?;
    let config = Config::resolve(settings, &flags, environment, file.as_ref());
    if matches!(&command, Command::Serve(serve) if serve.print_config) {
        return commands::print_config(&config);
    }
    crate::log::start(&config, if name == "serve" { SERVER_LOG } else { "error" }).map_err(CliError::Usage)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if name == "serve" {
        // It carries the groups and their messages; statements have threads of their own. More would mostly wake each other.
        runtime.worker_threads(std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2));
    }
    let runtime = runtime.enable_all().thread_stack_size(STACK_BYTES).build();
    let runtime = runtime.map_err(|error| CliError::Failed(format!("threads cannot start: {error}")))?;
    let outcome = match command {
        Command::Serve(_) => runtime.block_on(commands::serve(&config)),
        Command::Sql(sql) => commands::sql(runtime.handle(), &config, &sql),
        Command::Import(import) => runtime.block_on(commands::import(&config, &import.files)),
        Command::Export(_) => runtime.block_on(commands::export(&config)),
        Command::Check(_) => runtime.block_on(commands::check(&config)),
        Command::Demo(_) => runtime.block_on(commands::demo(&config)),
        Command::Version | Command::Cluster(_) | Command::Backup { .. } | Command::Restore { .. } => Ok(()),
    };
    // A reader blocked on standard input must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

fn unsupported(command: &str) -> CliError {
    CliError::Failed(format!("pyralog {command} is not supported by this version"))
}
