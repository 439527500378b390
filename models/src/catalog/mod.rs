//! The catalog: which schemas, collections and views there are, and which relations back them.
//!
//! It lives in the meta group's replicated state, one key an object (`catalog/object/<schema>/<name>`), and is read through an immutable
//! [`CatalogSnapshot`] that is rebuilt when the meta revision moves. A change is a conditional meta change, so that two nodes or sessions
//! never overwrite each other's definition.

mod object;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use pyralog_consensus::{Meta, MetaChange, MetaExpect, MetaRevision, Moment, Node};
use pyralog_storage::{RelationId, RelationSchema, Snapshot};

pub use object::{CheckConstraint, CollectionKind, ColumnDefinition, Object, ObjectName, ROW_ID, TableDefinition, ViewDefinition};
pub use snapshot::{CatalogEntry, CatalogSnapshot};

use crate::error::{Error, ErrorKind, Result};

/// The database's only catalog name.
pub const DATABASE: &str = "pyralog";
/// The schema that is there from the start.
pub const DEFAULT_SCHEMA: &str = "public";

const OBJECT_PREFIX: &str = "catalog/object/";
const SCHEMA_PREFIX: &str = "catalog/schema/";
/// How long a read waits for a relation that another node alters in all partitions, before it sees to that itself, and how often it looks.
const ALTERING_LIMIT: Duration = Duration::from_secs(2);
const ALTERING_PAUSE: Duration = Duration::from_millis(10);

/// The catalog of one database. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    node: Arc<Node>,
    cached: Arc<RwLock<Arc<CatalogSnapshot>>>,
    /// Held while a relation is altered in one partition after the other: a reader must not find it in two shapes.
    altering: Arc<tokio::sync::RwLock<()>>,
}

impl Catalog {
    /// Reads the catalog; makes the default schema on first use.
    pub async fn open(node: Arc<Node>) -> Result<Catalog> {
        let meta = node.meta().clone();
        let default_schema = format!("{SCHEMA_PREFIX}{DEFAULT_SCHEMA}");
        meta.barrier().await?;
        if meta.get(&default_schema)?.is_none() {
            meta.change(MetaChange {
                put: vec![(default_schema, Vec::new())],
                ..Default::default()
            })
            .await?;
        }
        finish_alterations(&node).await?;
        let snapshot = CatalogSnapshot::load(&meta)?;
        Ok(Catalog {
            node,
            cached: Arc::new(RwLock::new(Arc::new(snapshot))),
            altering: Arc::default(),
        })
    }

    /// The newest state of all partitions' rows, at one timestamp, each relation in one shape; and that state as other nodes know it.
    pub async fn snapshots(&self) -> Result<(Vec<Snapshot>, Option<Moment>)> {
        let _unaltered = match self.node.partitions().len() {
            1 => None,
            _ => Some(self.altering.read().await),
        };
        let begun = Instant::now();
        let (mut snapshots, mut moment) = self.node.snapshots_and_moment().await?;
        while !are_of_one_shape(&snapshots) {
            // Another node alters a relation; if it is gone, somebody has to bring that to an end.
            match begun.elapsed() {
                waited if waited < ALTERING_LIMIT => tokio::time::sleep(ALTERING_PAUSE).await,
                waited if waited < 3 * ALTERING_LIMIT => finish_alterations(&self.node).await?,
                _ => {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        "55006",
                        "a relation is being altered in one partition after the other",
                    )
                    .with_hint("retry later"));
                }
            }
            (snapshots, moment) = self.node.snapshots_and_moment().await?;
        }
        Ok((snapshots, moment))
    }

    fn meta(&self) -> &Meta {
        self.node.meta()
    }

    /// The newest state.
    pub fn snapshot(&self) -> Result<Arc<CatalogSnapshot>> {
        let revision = self.meta().revision();
        {
            let cached = self.cached.read();
            if cached.revision() >= revision {
                return Ok(Arc::clone(&cached));
            }
        }
        let fresh = Arc::new(CatalogSnapshot::load(self.meta())?);
        let mut cached = self.cached.write();
        if cached.revision() < fresh.revision() {
            *cached = Arc::clone(&fresh);
        }
        Ok(fresh)
    }

    /// A relation id never used before.
    pub async fn allocate_relation(&self) -> Result<RelationId> {
        let number = self.meta().allocate("relation", 1).await?;
        u32::try_from(number)
            .map(RelationId)
            .map_err(|_| Error::new(ErrorKind::ResourceExhausted, "54000", "no relation ids are left"))
    }

    /// Numbers for hidden row ids of a relation: the first of `count` that were never given out.
    pub async fn allocate_rows(&self, relation: RelationId, count: u64) -> Result<u64> {
        Ok(self.meta().allocate(&format!("rows/{}", relation.0), count).await?)
    }

    /// Makes a schema.
    pub async fn create_schema(&self, name: &str) -> Result<()> {
        let key = format!("{SCHEMA_PREFIX}{name}");
        let change = MetaChange {
            expect: vec![MetaExpect {
                key: key.clone(),
                revision: None,
            }],
            put: vec![(key, Vec::new())],
            delete: Vec::new(),
        };
        match self.meta().change(change).await {
            Ok(_) => Ok(()),
            Err(pyralog_consensus::ConsensusError::MetaConflict { .. }) => Err(Error::new(
                ErrorKind::AlreadyExists,
                "42P06",
                format!("schema {name} exists already"),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an empty schema.
    pub async fn drop_schema(&self, name: &str) -> Result<()> {
        let change = MetaChange {
            delete: vec![format!("{SCHEMA_PREFIX}{name}")],
            ..Default::default()
        };
        self.meta().change(change).await?;
        Ok(())
    }

    /// Makes a table or bucket.
    pub async fn create_table(&self, table: TableDefinition) -> Result<()> {
        self.create_collection(&table.name.clone(), &Object::Table(table)).await
    }

    /// Makes a collection: its relations on every partition first, then its name, so that a name never lacks its relations.
    pub async fn create_collection(&self, name: &ObjectName, object: &Object) -> Result<()> {
        let mut made = Vec::new();
        let mut result = Ok(());
        for relation in object.relations() {
            made.push(relation.id);
            result = self.create_relation(relation).await;
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            result = self.create_object(name, object).await;
        }
        if result.is_err() {
            for relation in made {
                self.drop_relation(relation).await?;
            }
        }
        result
    }

    /// Makes a name for something that is not there yet.
    pub async fn create_object(&self, name: &ObjectName, object: &Object) -> Result<()> {
        self.put_object(name, object, None).await.map_err(|error| match error.kind {
            ErrorKind::Conflict => Error::new(ErrorKind::AlreadyExists, "42P07", format!("{name} exists already"))
                .with_hint("drop it first, or add IF NOT EXISTS"),
            _ => error,
        })
    }

    /// Replaces a definition that nobody changed since `revision`.
    pub async fn replace_object(&self, name: &ObjectName, object: &Object, revision: MetaRevision) -> Result<()> {
        self.put_object(name, object, Some(revision)).await
    }

    async fn put_object(&self, name: &ObjectName, object: &Object, revision: Option<MetaRevision>) -> Result<()> {
        let key = object_key(name);
        let value = serde_json::to_vec(object).map_err(|e| Error::internal(format!("definition of {name}: {e}")))?;
        let expect = vec![MetaExpect {
            key: key.clone(),
            revision,
        }];
        self.meta()
            .change(MetaChange {
                expect,
                put: vec![(key, value)],
                delete: Vec::new(),
            })
            .await?;
        Ok(())
    }

    /// Removes a name, then the relations behind it.
    pub async fn drop_object(&self, entry: &CatalogEntry) -> Result<()> {
        let key = object_key(&entry.name);
        let expect = vec![MetaExpect {
            key: key.clone(),
            revision: Some(entry.revision),
        }];
        self.meta()
            .change(MetaChange {
                expect,
                put: Vec::new(),
                delete: vec![key],
            })
            .await?;
        for relation in entry.object.relations() {
            self.drop_relation(relation.id).await?;
        }
        Ok(())
    }

    /// Renames an object.
    pub async fn rename_object(&self, entry: &CatalogEntry, to: &ObjectName, object: &Object) -> Result<()> {
        let (from_key, to_key) = (object_key(&entry.name), object_key(to));
        let value = serde_json::to_vec(object).map_err(|e| Error::internal(format!("definition of {to}: {e}")))?;
        let expect = vec![
            MetaExpect {
                key: from_key.clone(),
                revision: Some(entry.revision),
            },
            MetaExpect {
                key: to_key.clone(),
                revision: None,
            },
        ];
        self.meta()
            .change(MetaChange {
                expect,
                put: vec![(to_key, value)],
                delete: vec![from_key],
            })
            .await?;
        Ok(())
    }

    /// Makes a relation on every partition.
    pub async fn create_relation(&self, schema: &RelationSchema) -> Result<()> {
        for partition in self.node.partitions() {
            partition.create_relation(schema.clone()).await?;
            // The statement goes on with it here, whichever node applied it first.
            partition.barrier().await?;
        }
        Ok(())
    }

    /// Changes a relation on every partition.
    pub async fn alter_relation(&self, schema: &RelationSchema) -> Result<()> {
        let alone = Arc::clone(&self.altering).write_owned().await;
        let (node, schema) = (Arc::clone(&self.node), schema.clone());
        // A task of its own: it comes to an end also when nobody waits for it, so that all partitions have one shape.
        let altering = tokio::spawn(async move {
            let _alone = alone;
            for partition in node.partitions() {
                partition.alter_relation(schema.clone()).await?;
                partition.barrier().await?;
            }
            Ok(())
        });
        altering
            .await
            .map_err(|error| Error::internal(format!("a task that altered a relation failed: {error}")))?
    }

    /// Removes a relation from every partition.
    pub async fn drop_relation(&self, relation: RelationId) -> Result<()> {
        for partition in self.node.partitions() {
            partition.drop_relation(relation).await?;
        }
        Ok(())
    }
}

/// Whether each relation has the same schema in all partitions that have it.
fn are_of_one_shape(snapshots: &[Snapshot]) -> bool {
    let [first, others @ ..] = snapshots else { return true };
    let versions: BTreeMap<RelationId, u32> = match others {
        [] => return true,
        _ => first.versions().collect(),
    };
    let mut others = others.iter().flat_map(Snapshot::versions);
    others.all(|(relation, version)| versions.get(&relation).is_none_or(|first| *first == version))
}

/// Alters relations in those partitions that a crash has left behind others.
async fn finish_alterations(node: &Node) -> Result<()> {
    let mut newest: BTreeMap<RelationId, Arc<RelationSchema>> = BTreeMap::new();
    for schema in node.partitions().iter().flat_map(|partition| partition.storage().relations()) {
        let known = newest.entry(schema.id).or_insert_with(|| Arc::clone(&schema));
        if known.version < schema.version {
            *known = schema;
        }
    }
    for partition in node.partitions() {
        for schema in newest.values() {
            let own = partition.storage().relation_schema(schema.id);
            if own.is_some_and(|own| own.version < schema.version) {
                partition.alter_relation((**schema).clone()).await?;
            }
        }
    }
    Ok(())
}

fn object_key(name: &ObjectName) -> String {
    // A schema's name cannot hold a slash (checked when it is made), so the key splits in one way only.
    format!("{OBJECT_PREFIX}{}/{}", name.schema, name.name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use futures::TryStreamExt;

    use crate::engine::Engine;
    use crate::{Database, DatabaseConfig, Error, Parameters};

    async fn count(db: &Database) -> Result<usize, Error> {
        let result = db.session().execute("SELECT a FROM t", Parameters::None).await?;
        let batches: Vec<_> = result.stream.try_collect().await?;
        Ok(batches.iter().map(|batch| batch.num_rows()).sum())
    }

    #[tokio::test]
    async fn an_alteration_that_a_crash_has_cut_short_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let config = DatabaseConfig {
            partitions: 4,
            ..DatabaseConfig::new(dir.path())
        };
        let db = Database::open_with(config.clone()).await.unwrap();
        let session = db.session();
        let rows = "INSERT INTO t SELECT value, 0 FROM generate_series(1, 100)";
        for sql in ["CREATE TABLE t (a BIGINT PRIMARY KEY, b BIGINT)", rows] {
            session.execute(sql, Parameters::None).await.unwrap();
        }
        let engine = session.engine();
        let id = engine
            .catalog
            .snapshot()
            .unwrap()
            .objects()
            .flat_map(|entry| entry.object.relations())
            .next()
            .unwrap()
            .id;
        let alter_two = async |engine: &Engine| {
            for partition in &engine.node.partitions()[..2] {
                let mut altered = (*partition.storage().relation_schema(id).unwrap()).clone();
                altered.version += 1;
                partition.alter_relation(altered).await.unwrap();
            }
        };
        let versions = |engine: &Engine| -> BTreeSet<u32> {
            let partitions = engine.node.partitions().iter();
            partitions
                .map(|partition| partition.storage().relation_schema(id).unwrap().version)
                .collect()
        };
        alter_two(engine).await;
        assert_eq!(versions(engine), BTreeSet::from([1, 2]), "two shapes");
        drop((session, db));
        // The next start finishes it, and so does who reads, since another node may have begun it.
        let db = Database::open_with(config).await.unwrap();
        let session = db.session();
        assert_eq!(versions(session.engine()), BTreeSet::from([2]));
        alter_two(session.engine()).await;
        assert_eq!(count(&db).await.unwrap(), 100);
        assert_eq!(versions(session.engine()), BTreeSet::from([3]));
        db.close().await.unwrap();
    }
}
