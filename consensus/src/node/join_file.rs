//! `JOIN`: a join that is not finished. The token by which the cluster knows this directory, and the addresses at which the node asks, one
//! a line. It is there from the first question until the node votes in every group, so that a node that is started again in between
//! goes on by itself.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use pyralog_storage::StorageError;

const NAME: &str = "JOIN";

/// A join that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinFile {
    /// Made before the node first asked, so that asking again gives the same answer.
    pub token: String,
    /// Nodes of the cluster, as `host:port`.
    pub addresses: Vec<String>,
}

impl JoinFile {
    /// A join that begins.
    pub fn begin(addresses: Vec<String>) -> JoinFile {
        let token = crate::runtime::random_uuid().to_string();
        JoinFile { token, addresses }
    }

    /// Where a directory's file is.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    /// Reads a directory's file; `None`: no join is in progress.
    pub fn read(dir: &Path) -> Result<Option<JoinFile>, StorageError> {
        let path = Self::path(dir);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io(path, "read")(error)),
        };
        let mut lines = text.lines().map(str::to_owned);
        let token = lines.next().filter(|token| uuid::Uuid::parse_str(token).is_ok());
        let token = token.ok_or_else(|| StorageError::damaged(&path, "join", "it does not begin with a token".to_owned()))?;
        let addresses = lines.collect();
        Ok(Some(JoinFile { token, addresses }))
    }

    /// Writes a directory's file.
    pub fn write(&self, dir: &Path) -> Result<(), StorageError> {
        let (path, temporary) = (Self::path(dir), dir.join("JOIN.tmp"));
        let text = format!("{}\n{}\n", self.token, self.addresses.join("\n"));
        File::create(&temporary)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(StorageError::io(&path, "write"))
    }

    /// Removes a directory's file.
    pub fn remove(dir: &Path) -> Result<(), StorageError> {
        let path = Self::path(dir);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StorageError::io(path, "remove")(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(JoinFile::read(dir.path()).unwrap(), None);
        let join = JoinFile::begin(vec!["10.0.0.1:7402".to_owned(), "[::1]:7402".to_owned()]);
        join.write(dir.path()).unwrap();
        assert_eq!(JoinFile::read(dir.path()).unwrap(), Some(join));
        JoinFile::remove(dir.path()).unwrap();
        JoinFile::remove(dir.path()).unwrap();
        assert_eq!(JoinFile::read(dir.path()).unwrap(), None);
    }

    #[test]
    fn a_file_of_something_else_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(JoinFile::path(dir.path()), "hello").unwrap();
        let error = JoinFile::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("JOIN"), "{error}");
    }
}
