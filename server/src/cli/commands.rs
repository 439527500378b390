//! The commands: from a configuration to what they do.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::CliError;
use super::arguments::SqlFlags;
use crate::config::Config;
use crate::export;
use crate::format::Format;
use crate::import::{self, ImportFormat, ReadOptions};
use crate::serve::ServeOptions;
use crate::shell::connection::{self, Connection, TableName};
use crate::shell::interactive;
use crate::shell::runner::Runner;
use crate::shell::script::{self, Stopped};

/// `pyralog serve --print-config`: TOML with a comment on where each value comes from.
pub fn print_config(config: &Config) -> Result<(), CliError> {
    let options = ServeOptions::of(config);
    for effective in config.effective() {
        let name = effective.setting.name;
        match &effective.value {
            Some(value) => println!(
                "{:<56} # {}: {}",
                format!("{name} = {value:?}"),
                effective.source,
                effective.setting.help
            ),
            None => println!("{:<56} # not set: {}", format!("# {name} ="), effective.setting.help),
        }
    }
    options.map(|_| ()).map_err(CliError::Usage)
}

/// `pyralog serve`.
pub async fn serve(config: &Config) -> Result<(), CliError> {
    let options = ServeOptions::of(config).map_err(CliError::Usage)?;
    let dir = options.database.data_dir.display().to_string();
    let ready = |flight, http| {
        let told = format!(
            "pyralog {} is ready\n  Flight SQL  grpc://{flight}\n  HTTP        http://{http}\n  data        {dir}\n  shell       pyralog sql --url grpc://{flight}\n",
            env!("CARGO_PKG_VERSION")
        );
        // Whoever reads it is told; a server that nobody listens to serves all the same.
        let mut output = io::stdout();
        if let Err(error) = output.write_all(told.as_bytes()).and_then(|()| output.flush()) {
            tracing::warn!(%error, "the addresses cannot be printed");
        }
    };
    crate::serve::serve(options, ready).await.map_err(CliError::Failed)
}

/// `pyralog sql`.
pub fn sql(runtime: &Handle, config: &Config, flags: &SqlFlags) -> Result<(), CliError> {
    let scripted = !flags.commands.is_empty() || !flags.files.is_empty();
    let interactive = !scripted && io::stdin().is_terminal();
    let format: Format = config.text("format").unwrap_or("box").parse().map_err(CliError::Usage)?;
    if format.is_binary() && (interactive || io::stdout().is_terminal()) {
        return Err(CliError::Usage(format!(
            "--format {} is not for a terminal: send standard output to a file",
            format.name()
        )));
    }
    let max_rows = config.number("max-rows").map_err(CliError::Usage)?;
    let history = config
        .path("history-file")
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyralog_history")));
    let connection = runtime.block_on(open(config))?;
    let mut runner = Runner::new(connection.clone(), format, max_rows);
    let outcome = if interactive {
        runner.timer = true;
        interactive::run(runtime, &mut runner, history).map_err(CliError::Failed)
    } else {
        runtime.block_on(run_scripts(&mut runner, flags, scripted))
    };
    let closed = runtime.block_on(close(&connection));
    outcome.and(closed)
}

async fn run_scripts(runner: &mut Runner, flags: &SqlFlags, scripted: bool) -> Result<(), CliError> {
    let ended = async {
        for text in &flags.commands {
            script::run(runner, "", text.as_bytes(), 0).await?;
        }
        for path in &flags.files {
            let name = path.display().to_string();
            if name == "-" {
                script::run(runner, "stdin", io::stdin(), 0).await?;
                continue;
            }
            let file = File::open(path).map_err(|error| {
                eprintln!("{name}: {error}");
                Stopped::Failed
            })?;
            script::run(runner, &name, file, 0).await?;
        }
        if !scripted {
            script::run(runner, "stdin", io::stdin(), 0).await?;
        }
        Ok(())
    };
    match ended.await {
        Ok(()) | Err(Stopped::Quit) => Ok(()),
        Err(Stopped::Failed) => Err(CliError::Reported),
    }
}

/// `pyralog import`.
pub async fn import(config: &Config, files: &[PathBuf]) -> Result<(), CliError> {
    let table = table(config, "into")?;
    let format = config
        .text("format")
        .map(ImportFormat::parse)
        .transpose()
        .map_err(unsupported_or_usage)?;
    let options = ReadOptions::of(config).map_err(CliError::Usage)?;
    let connection = open(config).await?;
    let outcome = import::import(&connection, &table, files, format, &options).await;
    let closed = close(&connection).await;
    let imported = outcome.map_err(CliError::Failed)?;
    if files.len() > 1 {
        eprintln!("{} rows in all", imported.rows);
    }
    closed
}

/// `pyralog export`.
pub async fn export(config: &Config) -> Result<(), CliError> {
    let table = table(config, "from")?;
    let output = config.path("output").filter(|path| path.as_os_str() != "-");
    let format = export::format_of(config.text("format"), output.as_deref()).map_err(CliError::Usage)?;
    if output.is_none() && format.is_binary() && io::stdout().is_terminal() {
        return Err(CliError::Usage(format!(
            "--format {} is not for a terminal: give --output",
            format.name()
        )));
    }
    let connection = open(config).await?;
    let outcome = export::export(&connection, &table, format, output.as_deref()).await;
    let closed = close(&connection).await;
    outcome.map_err(CliError::Failed)?;
    closed
}

/// `pyralog check`.
pub async fn check(config: &Config) -> Result<(), CliError> {
    let dir = config.path("data-dir").ok_or_else(|| CliError::Usage("give --data-dir".into()))?;
    if !crate::check::is_database(&dir) {
        return Err(CliError::Failed(format!("{} is not a data directory", dir.display())));
    }
    let database = config.database(dir.clone()).map_err(CliError::Usage)?;
    let problems = crate::check::check(database)
        .await
        .map_err(|error| CliError::Failed(error.to_string()))?;
    for problem in &problems {
        println!("{problem}");
    }
    match problems.len() {
        0 => {
            println!("{}: no problems", dir.display());
            Ok(())
        }
        1 => Err(CliError::Failed("1 problem".into())),
        count => Err(CliError::Failed(format!("{count} problems"))),
    }
}

/// `pyralog demo`.
pub async fn demo(config: &Config) -> Result<(), CliError> {
    crate::demo::run(config).await.map_err(CliError::Failed)
}

fn table(config: &Config, setting: &str) -> Result<TableName, CliError> {
    let name = config
        .text(setting)
        .ok_or_else(|| CliError::Usage(format!("give --{setting} TABLE")))?;
    TableName::parse(name).map_err(CliError::Usage)
}

/// A format that exists but is not read yet is a failed operation, an unknown one wrong usage.
fn unsupported_or_usage(problem: String) -> CliError {
    if problem.contains("not supported") {
        CliError::Failed(problem)
    } else {
        CliError::Usage(problem)
    }
}

async fn open(config: &Config) -> Result<Arc<dyn Connection>, CliError> {
    let opened = connection::open(config).await.map_err(CliError::Usage)?;
    opened.map_err(|error| CliError::Failed(error.to_string()))
}

async fn close(connection: &Arc<dyn Connection>) -> Result<(), CliError> {
    connection.close().await.map_err(|error| CliError::Failed(error.to_string()))
}
