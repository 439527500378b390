//! Ways to damage a file, and the kinds of files there are.

use std::fmt;
use std::path::Path;

use rand::RngExt;
use rand::rngs::StdRng;

/// One damage.
#[derive(Debug, Clone)]
pub enum Damage {
    /// The bits of one byte are turned.
    Flip(u64),
    /// The file ends here.
    Cut(u64),
    /// This stretch is zeros.
    Zero(u64, u64),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Flip(at) => write!(f, "byte {at} flipped"),
            Damage::Cut(at) => write!(f, "cut to {at} bytes"),
            Damage::Zero(from, to) => write!(f, "bytes {from} to {to} zeroed"),
        }
    }
}

impl Damage {
    /// The damage number `case`: first the ends of the file, then anywhere. `None` if it would change nothing.
    pub fn pick(case: usize, file: &Path, random: &mut StdRng) -> Option<Damage> {
        let length = file.metadata().unwrap().len();
        let damage = match case {
            0 => Damage::Flip(0),
            1 => Damage::Flip(length - 1),
            2 => Damage::Cut(length - 1),
            3 => Damage::Cut(length / 2),
            4 => Damage::Cut(0),
            5 => {
                let from = random.random_range(0..length);
                Damage::Zero(from, (from + 64).min(length))
            }
            _ => Damage::Flip(random.random_range(0..length)),
        };
        let bytes = std::fs::read(file).unwrap();
        let nothing = matches!(damage, Damage::Zero(from, to) if bytes[from as usize..to as usize].iter().all(|byte| *byte == 0));
        (!nothing).then_some(damage)
    }

    /// Damages a file.
    pub fn apply(&self, file: &Path) {
        let mut bytes = std::fs::read(file).unwrap();
        match *self {
            Damage::Flip(at) => bytes[at as usize] ^= 0xff,
            Damage::Cut(at) => bytes.truncate(at as usize),
            Damage::Zero(from, to) => bytes[from as usize..to as usize].fill(0),
        }
        std::fs::write(file, bytes).unwrap();
    }
}

/// The kind of a file: its folder's role and its ending.
pub fn kind_of(file: &Path) -> String {
    let name = file.file_name().unwrap().to_string_lossy().to_ascii_lowercase();
    let folder = file.components().next().unwrap().as_os_str().to_string_lossy().to_ascii_lowercase();
    let letters = |text: &str| {
        text.split(|c: char| !c.is_ascii_alphabetic())
            .find(|part| !part.is_empty())
            .unwrap_or("numbered")
            .to_owned()
    };
    let ending = match name.split_once('.') {
        Some((_, ending)) => ending.to_owned(),
        None => letters(&name),
    };
    if file.components().count() == 1 {
        ending
    } else {
        format!("{folder}/{ending}")
    }
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn kinds_are_told_apart() {
    let kinds = [
        "FORMAT",
        "log/00000001.log",
        "meta/db",
        "partitions/0/MANIFEST-12",
        "partitions/0/5/a1.arrow",
        "partitions/0/5/a1.idx.arrow",
    ];
    let kinds: Vec<String> = kinds.into_iter().map(|path| kind_of(Path::new(path))).collect();
    assert_eq!(
        kinds,
        [
            "format",
            "log/log",
            "meta/db",
            "partitions/manifest",
            "partitions/arrow",
            "partitions/idx.arrow"
        ]
    );
}
