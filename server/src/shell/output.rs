//! Where results go: standard output, or a file named with `.output`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::path::{Path, PathBuf};

/// A place for results.
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// What writes to it.
        writer: BufWriter<File>,
    },
}

impl Output {
    /// A new file; what was there is replaced.
    pub fn file(path: &Path) -> io::Result<Self> {
        Ok(Output::File {
            path: path.to_path_buf(),
            writer: BufWriter::new(File::create(path)?),
        })
    }

    /// Whether a person reads it.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Output::Stdout) && io::stdout().is_terminal()
    }

    /// Writes and flushes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        match self {
            Output::Stdout => {
                let mut stdout: StdoutLock<'_> = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Output::File { writer, .. } => {
                writer.write_all(bytes)?;
                writer.flush()
            }
        }
    }
}
