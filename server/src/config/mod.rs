//! Configuration: flags over environment over file over defaults, each value with where it came from.

pub mod file;
pub mod peer;
pub mod setting;
pub mod size;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pyralog_models::DatabaseConfig;

pub use file::ConfigFile;
pub use setting::{CommandSettings, Setting};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line.
    Flag,
    /// An environment variable, by name.
    Environment(String),
    /// The configuration file.
    File(PathBuf),
    /// Nobody said otherwise.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => write!(f, "flag"),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Default => write!(f, "default"),
        }
    }
}

/// A setting's value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The setting.
    pub setting: &'static Setting,
    /// Its value; `None`: not set and without default.
    pub value: Option<String>,
    /// Where the value came from.
    pub source: Source,
}

/// The configuration of one command, resolved. Values are text until a typed getter reads them; a getter's error names the source.
#[derive(Debug, Clone, Default)]
pub struct Config {
    values: BTreeMap<&'static str, Effective>,
}

impl Config {
    /// Resolves every setting of a command. `flags` holds what the command line gave, `environment` reads a variable.
    pub fn resolve(
        command: &CommandSettings,
        flags: &[(&'static str, Option<String>)],
        environment: impl Fn(&str) -> Option<String>,
        file: Option<&ConfigFile>,
    ) -> Self {
        let mut values = BTreeMap::new();
        for setting in command.settings() {
            let flag = flags
                .iter()
                .find(|(name, _)| *name == setting.name)
                .and_then(|(_, value)| value.clone());
            let from_environment = || {
                variables(setting.name)
                    .into_iter()
                    .find_map(|name| Some((environment(&name)?, name)))
            };
            let (value, source) = if let Some(value) = flag {
                (Some(value), Source::Flag)
            } else if let Some((value, name)) = from_environment() {
                (Some(value), Source::Environment(name))
            } else if let Some((file, value)) = file.and_then(|file| Some((file, file.get(command.name, setting.name)?))) {
                (Some(value.to_owned()), Source::File(file.path.clone()))
            } else {
                (setting.default.map(str::to_owned), Source::Default)
            };
            values.insert(setting.name, Effective { setting, value, source });
        }
        Config { values }
    }

    /// All values in force, by name.
    pub fn effective(&self) -> impl Iterator<Item = &Effective> {
        self.values.values()
    }

    /// A value as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.value.as_deref().filter(|value| !value.is_empty())
    }

    /// A value as a path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// A value as bytes.
    pub fn bytes(&self, name: &str) -> Result<u64, String> {
        self.parse(name, size::parse_bytes)
    }

    /// A value as a duration; zero where it stands for none.
    pub fn duration(&self, name: &str) -> Result<Duration, String> {
        self.parse(name, size::parse_duration)
    }

    /// A value as a number.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<N, String> {
        self.parse(name, |text| {
            text.replace('_', "")
                .parse()
                .map_err(|_| format!("`{text}` is not a number in range"))
        })
    }

    /// A value as a truth value.
    pub fn flag(&self, name: &str) -> Result<bool, String> {
        self.parse(name, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(format!("`{text}` is neither true nor false")),
        })
    }

    /// A value as a socket address; `localhost` stands for 127.0.0.1.
    pub fn address(&self, name: &str) -> Result<SocketAddr, String> {
        self.parse(name, |text| {
            let numeric = text
                .strip_prefix("localhost:")
                .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
            numeric
                .parse()
                .map_err(|_| format!("`{text}` is not an address such as 127.0.0.1:8080"))
        })
    }

    /// How to open a data directory.
    pub fn database(&self, data_dir: PathBuf) -> Result<DatabaseConfig, String> {
        let mut config = DatabaseConfig::new(data_dir);
        config.memory_limit = self.bytes("memory-limit")?;
        if config.memory_limit < MEMORY_FLOOR {
            return Err(format!(
                "memory-limit: {} bytes are too few; give at least 64MB",
                config.memory_limit
            ));
        }
        config.threads = self.number("threads")?;
        config.partitions = self.number("partitions")?;
        config.spill_dir = self.path("spill-dir");
        config.file_root = self.path("file-root");
        Ok(config)
    }

    fn parse<T>(&self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
        let effective = self.values.get(name).ok_or_else(|| format!("{name}: no such setting"))?;
        let text = effective.value.as_deref().ok_or_else(|| format!("{name} is not set"))?;
        read(text.trim()).map_err(|problem| format!("{name} ({}): {problem}", effective.source))
    }
}

/// Below this, a memtable and one sort do not fit.
const MEMORY_FLOOR: u64 = 64_000_000;

/// Environment variables that hold a setting, the first wins.
fn variables(name: &str) -> Vec<String> {
    let own = format!("PYRALOG_{}", name.replace('-', "_").to_ascii_uppercase());
    if name == "log-level" {
        vec!["RUST_LOG".to_owned(), own]
    } else {
        vec![own]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::Path;

    fn serve() -> &'static CommandSettings {
        CommandSettings::of("serve").unwrap()
    }

    #[test]
    fn flags_over_environment_over_file_over_default() {
        let file = ConfigFile::parse(Path::new("c.toml"), "[serve]\nhttp-addr='1.1.1.1:1'\nthreads=2\npartitions=9").unwrap();
        let environment = |name: &str| match name {
            "PYRALOG_HTTP_ADDR" => Some("2.2.2.2:2".to_owned()),
            "PYRALOG_THREADS" => Some("3".to_owned()),
            _ => None,
        };
        let flags = [("http-addr", Some("3.3.3.3:3".to_owned())), ("flight-addr", None)];
        let config = Config::resolve(serve(), &flags, environment, Some(&file));
        let source = |name: &str| config.effective().find(|e| e.setting.name == name).unwrap().source.clone();
        assert_eq!(config.text("http-addr"), Some("3.3.3.3:3"));
        assert_eq!(source("http-addr"), Source::Flag);
        assert_eq!(config.number::<usize>("threads"), Ok(3));
        assert_eq!(source("threads"), Source::Environment("PYRALOG_THREADS".into()));
        assert_eq!(config.number::<u32>("partitions"), Ok(9));
        assert_eq!(source("partitions"), Source::File("c.toml".into()));
        assert_eq!(config.address("flight-addr").unwrap().port(), 50051);
        assert_eq!(source("flight-addr"), Source::Default);
    }

    #[test]
    fn a_wrong_value_names_its_source() {
        let config = Config::resolve(
            serve(),
            &[],
            |name| (name == "PYRALOG_MEMORY_LIMIT").then(|| "many".to_owned()),
            None,
        );
        let error = config.database("d".into()).unwrap_err();
        assert!(error.contains("memory-limit (environment PYRALOG_MEMORY_LIMIT)"), "{error}");
    }

    #[test]
    fn memory_limit_reaches_the_database() {
        let config = Config::resolve(serve(), &[("memory-limit", Some("512MiB".into()))], |_| None, None);
        assert_eq!(config.database("d".into()).unwrap().memory_limit, 512 << 20);
        let config = Config::resolve(serve(), &[("memory-limit", Some("1MB".into()))], |_| None, None);
        assert!(config.database("d".into()).is_err());
    }

    #[test]
    fn rust_log_is_the_log_level() {
        let config = Config::resolve(serve(), &[], |name| (name == "RUST_LOG").then(|| "debug".to_owned()), None);
        assert_eq!(config.text("log-level"), Some("debug"));
    }
}
