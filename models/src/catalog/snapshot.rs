//! The catalog at one revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pyralog_consensus::{Meta, MetaRevision};

use super::object::{Object, ObjectName, TableDefinition};
use super::{DEFAULT_SCHEMA, OBJECT_PREFIX, SCHEMA_PREFIX};
use crate::error::{Error, ErrorKind, Result, nearest};
use crate::rdf::{DatasetDefinition, QUADS};

/// A definition and the revision that set it.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    /// The name.
    pub name: ObjectName,
    /// The definition.
    pub object: Arc<Object>,
    /// When it was set: the condition of the next change.
    pub revision: MetaRevision,
}

/// All definitions at one revision. Immutable.
#[derive(Debug, Default)]
pub struct CatalogSnapshot {
    revision: MetaRevision,
    schemas: BTreeSet<String>,
    objects: BTreeMap<ObjectName, CatalogEntry>,
}

impl CatalogSnapshot {
    /// Reads the meta state.
    pub(super) fn load(meta: &Meta) -> Result<CatalogSnapshot> {
        // The revision is read first: what changes meanwhile is then read again, never missed.
        let revision = meta.revision();
        let schemas = meta
            .scan(SCHEMA_PREFIX)?
            .into_iter()
            .map(|(key, _, _)| key[SCHEMA_PREFIX.len()..].to_owned())
            .collect();
        let mut objects = BTreeMap::new();
        for (key, value, revision) in meta.scan(OBJECT_PREFIX)? {
            let (schema, name) = key[OBJECT_PREFIX.len()..]
                .split_once('/')
                .ok_or_else(|| Error::new(ErrorKind::Corruption, "XX001", format!("catalog key {key} has no schema")))?;
            let object = serde_json::from_slice(&value)
                .map_err(|e| Error::new(ErrorKind::Corruption, "XX001", format!("catalog entry {key}: {e}")))?;
            let name = ObjectName {
                schema: schema.to_owned(),
                name: name.to_owned(),
            };
            objects.insert(
                name.clone(),
                CatalogEntry {
                    name,
                    object: Arc::new(object),
                    revision,
                },
            );
        }
        Ok(CatalogSnapshot {
            revision,
            schemas,
            objects,
        })
    }

    /// The revision.
    pub fn revision(&self) -> MetaRevision {
        self.revision
    }

    /// Schema names, in order.
    pub fn schemas(&self) -> impl Iterator<Item = &str> {
        self.schemas.iter().map(String::as_str)
    }

    /// Whether a schema is there.
    pub fn has_schema(&self, name: &str) -> bool {
        self.schemas.contains(name)
    }

    /// All objects, in order of name.
    pub fn objects(&self) -> impl Iterator<Item = &CatalogEntry> {
        self.objects.values()
    }

    /// An object by name.
    pub fn get(&self, name: &ObjectName) -> Option<&CatalogEntry> {
        self.objects.get(name)
    }

    /// An object by name, or an error that names the nearest one.
    pub fn require(&self, name: &ObjectName) -> Result<&CatalogEntry> {
        if let Some(entry) = self.objects.get(name) {
            return Ok(entry);
        }
        if !self.has_schema(&name.schema) {
            return Err(Error::new(
                ErrorKind::NotFound,
                "42P01",
                format!("table {name} does not exist: there is no schema {}", name.schema),
            ));
        }
        let error = Error::new(ErrorKind::NotFound, "42P01", format!("table {name} does not exist"));
        let names = self.objects.keys().filter(|n| n.schema == name.schema).map(|n| n.name.as_str());
        Err(match nearest(&name.name, names) {
            Some(near) => error.with_hint(format!("did you mean {near}?")),
            None => error.with_hint("SHOW TABLES lists what is there"),
        })
    }

    /// Names of the datasets in the default schema.
    pub fn datasets(&self) -> impl Iterator<Item = &str> {
        let datasets = self
            .objects
            .iter()
            .filter(|(name, entry)| name.schema == DEFAULT_SCHEMA && matches!(entry.object.as_ref(), Object::Dataset(_)));
        datasets.map(|(name, _)| name.name.as_str())
    }

    /// Names of the tables of datasets.
    pub fn quads_tables(&self) -> impl Iterator<Item = ObjectName> {
        let names = self
            .objects
            .values()
            .filter(|entry| matches!(entry.object.as_ref(), Object::Dataset(_)))
            .map(|entry| ObjectName {
                schema: entry.name.name.clone(),
                name: QUADS.to_owned(),
            });
        names.filter(|name| self.dataset_of(name).is_some())
    }

    /// The dataset whose table this names: `kb.quads`, unless a schema `kb` has a table of that name.
    pub fn dataset_of(&self, name: &ObjectName) -> Option<&DatasetDefinition> {
        let dataset = ObjectName {
            schema: super::DEFAULT_SCHEMA.to_owned(),
            name: name.schema.clone(),
        };
        match self.objects.get(&dataset)?.object.as_ref() {
            Object::Dataset(dataset) if name.name == QUADS && !self.objects.contains_key(name) => Some(dataset),
            _ => None,
        }
    }

    /// A table or bucket that can be written, by name.
    pub fn require_table(&self, name: &ObjectName) -> Result<(CatalogEntry, Arc<TableDefinition>)> {
        let entry = self.require(name)?;
        match entry.object.as_ref() {
            Object::Table(table) => Ok((entry.clone(), Arc::new(table.clone()))),
            Object::View(_) => Err(Error::invalid(
                "42809",
                format!("{name} is a view; it cannot be written or altered"),
            )),
            Object::External { .. } => Err(Error::invalid(
                "42809",
                format!("{name} is an external table; it cannot be written"),
            )),
            Object::Dataset(_) => Err(
                Error::invalid("42809", format!("{name} is a dataset of RDF; SQL reads it as {name}.quads"))
                    .with_hint("pyralog import --into brings RDF in"),
            ),
        }
    }
}
