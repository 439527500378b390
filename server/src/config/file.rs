//! The configuration file: TOML, keys at the top for every command, tables for one command.
//!
//! ```toml
//! memory-limit = "4GB"          # every command that opens a database
//! [serve]
//! http-addr = "127.0.0.1:8080"  # only `pyralog serve`
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::setting::{COMMANDS, CommandSettings};

/// A configuration file's settings as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where it was read from.
    pub path: PathBuf,
    general: BTreeMap<String, String>,
    commands: BTreeMap<String, BTreeMap<String, String>>,
}

impl ConfigFile {
    /// Reads a file. The error names the file, and the key where one is wrong.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::parse(path, &text)
    }

    /// Reads a file's text.
    pub fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|e| format!("{}: {e}", path.display()))?;
        let mut file = ConfigFile {
            path: path.to_path_buf(),
            ..ConfigFile::default()
        };
        for (key, value) in table {
            match (CommandSettings::of(&key), value) {
                (Some(command), Value::Table(table)) => {
                    let settings = file.section(table, |name| command.has(name), &format!("[{key}] "))?;
                    file.commands.insert(key, settings);
                }
                (_, value) => {
                    let known = |name: &str| COMMANDS.iter().any(|command| command.has(name));
                    file.general.extend(file.section(Table::from_iter([(key, value)]), known, "")?);
                }
            }
        }
        Ok(file)
    }

    /// The value of a setting for a command: its own table first, then the top.
    pub fn get(&self, command: &str, name: &str) -> Option<&str> {
        let own = self.commands.get(command).and_then(|settings| settings.get(name));
        own.or_else(|| self.general.get(name)).map(String::as_str)
    }

    fn section(&self, table: Table, known: impl Fn(&str) -> bool, prefix: &str) -> Result<BTreeMap<String, String>, String> {
        let mut settings = BTreeMap::new();
        for (key, value) in table {
            let name = key.replace('_', "-");
            if !known(&name) {
                return Err(format!("{}: unknown setting {prefix}{key}", self.path.display()));
            }
            let text = match value {
                Value::String(text) => text,
                Value::Integer(number) => number.to_string(),
                Value::Float(number) => number.to_string(),
                Value::Boolean(flag) => flag.to_string(),
                other => {
                    return Err(format!(
                        "{}: {prefix}{key} is {}, expected text, a number or true/false",
                        self.path.display(),
                        other.type_str()
                    ));
                }
            };
            settings.insert(name, text);
        }
        Ok(settings)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, String> {
        ConfigFile::parse(Path::new("p.toml"), text)
    }

    #[test]
    fn a_commands_table_wins_over_the_top() {
        let file = parse("memory-limit = \"1GB\"\nthreads = 4\n[serve]\nmemory_limit = \"2GB\"\ninsecure = true\n").unwrap();
        assert_eq!(file.get("serve", "memory-limit"), Some("2GB"));
        assert_eq!(file.get("sql", "memory-limit"), Some("1GB"));
        assert_eq!(file.get("serve", "threads"), Some("4"));
        assert_eq!(file.get("serve", "insecure"), Some("true"));
        assert_eq!(file.get("serve", "http-addr"), None);
    }

    #[test]
    fn wrong_files_name_the_key() {
        assert!(parse("memroy-limit = 1").unwrap_err().contains("memroy-limit"));
        assert!(parse("[serve]\nformat = \"csv\"").unwrap_err().contains("[serve] format"));
        assert!(parse("threads = [1]").unwrap_err().contains("threads is array"));
        assert!(parse("threads = ").unwrap_err().starts_with("p.toml:"));
    }
}
