//! The one-way dependencies of the crates, and the size of files, proved from the sources themselves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pyralog_tests::binary::workspace;

/// The longest source file, in lines.
const MAX_LINES: usize = 600;

/// A crate, which of our crates it may use, and which of others it must not know.
struct Room {
    folder: &'static str,
    uses: &'static [&'static str],
    never: &'static [&'static str],
}

const ROOMS: [Room; 5] = [
    Room {
        folder: "storage",
        uses: &[],
        never: &[
            "openraft",
            "actix",
            "actix-rt",
            "actix-web",
            "tonic",
            "arrow-flight",
            "datafusion",
            "sled",
            "sqlparser",
        ],
    },
    Room {
        folder: "consensus",
        uses: &["pyralog-storage"],
        never: &["actix-web", "tonic", "arrow-flight", "datafusion", "sqlparser", "clap"],
    },
    Room {
        folder: "models",
        uses: &["pyralog-consensus", "pyralog-storage"],
        never: &[
            "actix",
            "actix-rt",
            "actix-web",
            "tonic",
            "arrow-flight",
            "openraft",
            "sled",
            "clap",
        ],
    },
    Room {
        folder: "server",
        uses: &["pyralog-models"],
        never: &["openraft", "sled"],
    },
    Room {
        folder: "client",
        uses: &[],
        never: &["datafusion", "openraft", "actix", "actix-web", "sled"],
    },
];

fn manifest(folder: &str) -> toml::Table {
    let path = workspace().join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The packages that a crate builds with; its tests may use more.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let tables = ["dependencies", "build-dependencies"]
        .into_iter()
        .filter_map(|name| manifest.get(name));
    let by_target = manifest
        .get("target")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(toml::Table::values);
    let targets = by_target.filter_map(|target| target.get("dependencies"));
    let name = |(key, value): (&String, &toml::Value)| value.get("package").and_then(toml::Value::as_str).unwrap_or(key).to_owned();
    tables
        .chain(targets)
        .filter_map(toml::Value::as_table)
        .flat_map(|table| table.iter().map(name))
        .collect()
}

#[test]
fn crates_depend_one_way() {
    for room in &ROOMS {
        let known = dependencies(&manifest(room.folder));
        let ours: Vec<&str> = known
            .iter()
            .filter(|name| name.starts_with("pyralog-"))
            .map(String::as_str)
            .collect();
        assert!(
            ours.iter().all(|name| room.uses.contains(name)),
            "{} uses {ours:?}, but may use only {:?}",
            room.folder,
            room.uses
        );
        let forbidden: Vec<&&str> = room.never.iter().filter(|name| known.contains(**name)).collect();
        assert!(forbidden.is_empty(), "{} must not know {forbidden:?}", room.folder);
    }
}

#[test]
fn every_member_is_a_known_room_with_the_shared_lints() {
    let root = manifest(".");
    let members = root["workspace"]["members"].as_array().expect("members");
    let members: BTreeSet<&str> = members.iter().filter_map(toml::Value::as_str).collect();
    let known: BTreeSet<&str> = ROOMS.iter().map(|room| room.folder).chain(["tests"]).collect();
    assert_eq!(members, known);
    for member in members {
        let lints = manifest(member)
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool);
        assert_eq!(lints, Some(true), "{member} does not take the workspace's lints");
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("entry").path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn files_hold_one_idea() {
    let mut found = Vec::new();
    for folder in ROOMS.iter().map(|room| room.folder).chain(["tests"]) {
        sources(&workspace().join(folder), &mut found);
    }
    assert!(found.len() > 50, "only {} source files found", found.len());
    for path in found {
        let lines = std::fs::read_to_string(&path).expect("source").lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines; look for its second idea", path.display());
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        assert!(
            !["utils", "util", "helpers", "common", "misc", "prelude"].contains(&stem.as_str()),
            "{} has no idea in its name",
            path.display()
        );
    }
}

/// Other engines for distributed queries were weighed, and may be again.
#[test]
fn one_module_knows_the_engine_of_distributed_queries() {
    let (crate_name, rooms) = ("datafusion_distributed", ["models/src/distributed", "server/src/carrier.rs"]);
    let mut found = Vec::new();
    for folder in ROOMS.iter().map(|room| room.folder) {
        sources(&workspace().join(folder), &mut found);
    }
    let knows = found
        .iter()
        .filter(|path| std::fs::read_to_string(path).expect("source").contains(crate_name));
    let (inside, outside): (Vec<_>, Vec<_>) = knows.partition(|path| rooms.iter().any(|room| path.starts_with(workspace().join(room))));
    assert!(!inside.is_empty() && outside.is_empty(), "{outside:?} know {crate_name}");
}
