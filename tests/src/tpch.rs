//! TPC-H: its tables as Arrow batches, their definitions, its 22 queries.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::stream;
use pyralog_client::{Batches, Client};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator, RegionGenerator,
    SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RecordBatchIterator, RegionArrow, SupplierArrow,
};

use crate::shared;

/// A table: its name and its primary key.
#[derive(Debug, Clone, Copy)]
pub struct TpchTable {
    /// The name.
    pub name: &'static str,
    /// The key's columns, with commas.
    pub key: &'static str,
}

/// All tables, small ones first.
pub const TABLES: [TpchTable; 8] = [
    TpchTable {
        name: "region",
        key: "r_regionkey",
    },
    TpchTable {
        name: "nation",
        key: "n_nationkey",
    },
    TpchTable {
        name: "supplier",
        key: "s_suppkey",
    },
    TpchTable {
        name: "customer",
        key: "c_custkey",
    },
    TpchTable {
        name: "part",
        key: "p_partkey",
    },
    TpchTable {
        name: "partsupp",
        key: "ps_partkey, ps_suppkey",
    },
    TpchTable {
        name: "orders",
        key: "o_orderkey",
    },
    TpchTable {
        name: "lineitem",
        key: "l_orderkey, l_linenumber",
    },
];

impl TpchTable {
    /// The rows at a scale factor, batch by batch.
    pub fn batches(&self, scale: f64) -> Box<dyn RecordBatchIterator> {
        match self.name {
            "region" => Box::new(RegionArrow::new(RegionGenerator::new(scale, 1, 1))),
            "nation" => Box::new(NationArrow::new(NationGenerator::new(scale, 1, 1))),
            "supplier" => Box::new(SupplierArrow::new(SupplierGenerator::new(scale, 1, 1))),
            "customer" => Box::new(CustomerArrow::new(CustomerGenerator::new(scale, 1, 1))),
            "part" => Box::new(PartArrow::new(PartGenerator::new(scale, 1, 1))),
            "partsupp" => Box::new(PartSuppArrow::new(PartSuppGenerator::new(scale, 1, 1))),
            "orders" => Box::new(OrderArrow::new(OrderGenerator::new(scale, 1, 1))),
            "lineitem" => Box::new(LineItemArrow::new(LineItemGenerator::new(scale, 1, 1))),
            other => panic!("{other} is not a table of TPC-H"),
        }
    }

    /// `CREATE TABLE` with the primary key.
    pub fn definition(&self) -> String {
        let schema = SchemaRef::clone(self.batches(0.001).schema());
        let columns: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| format!("{} {} NOT NULL", field.name(), sql_type(field.data_type())))
            .collect();
        format!("CREATE TABLE {} ({}, PRIMARY KEY ({}))", self.name, columns.join(", "), self.key)
    }
}

fn sql_type(data_type: &arrow::datatypes::DataType) -> &'static str {
    use arrow::datatypes::DataType;
    match data_type {
        DataType::Int64 => "BIGINT",
        DataType::Int32 => "INT",
        DataType::Date32 => "DATE",
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "VARCHAR",
        DataType::Decimal128(15, 2) => "DECIMAL(15,2)",
        other => panic!("TPC-H has no columns of type {other}"),
    }
}

/// Makes a table and ingests its rows, streamed as they are generated; the number of rows.
pub async fn load(db: &Client, table: TpchTable, scale: f64) -> u64 {
    db.sql(table.definition())
        .execute()
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", table.name));
    let batches = table.batches(scale);
    let schema = SchemaRef::clone(batches.schema());
    let rows = Batches::from_stream(schema, stream::iter(batches.map(Ok::<RecordBatch, std::convert::Infallible>)));
    db.table(table.name)
        .insert(rows)
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", table.name))
}

/// Makes all tables and ingests their rows.
pub async fn load_all(db: &Client, scale: f64) {
    for table in TABLES {
        load(db, table, scale).await;
    }
}

/// One query: its number, and its statements (query 15 makes and drops a view).
#[derive(Debug, Clone)]
pub struct TpchQuery {
    /// 1 to 22.
    pub number: u32,
    /// The statements in order.
    pub statements: Vec<String>,
}

/// Whether a statement of a query gives the query's rows.
pub fn gives_rows(statement: &str) -> bool {
    let start = statement.trim_start().to_ascii_lowercase();
    start.starts_with("select") || start.starts_with("with")
}

/// The 22 queries, where they are there.
pub fn queries() -> Option<Vec<TpchQuery>> {
    let folder = shared::require("checks/tpch")?;
    let read = |number: u32| {
        let path = folder.join(format!("q{number}.sql"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let statements = text
            .split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        TpchQuery { number, statements }
    };
    Some((1..=22).map(read).collect())
}
