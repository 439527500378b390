//! The 22 queries of TPC-H give what DataFusion gives over the same batches in memory. `TPCH_SF` is the scale (default 0.01).

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use pyralog_tests::measure::setting;
use pyralog_tests::peer;
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::Server;
use pyralog_tests::tpch::{TABLES, gives_rows, load, queries};

#[test]
fn all_queries_match_the_peer_also_after_kill_9() {
    let Some(queries) = queries() else { return };
    let scale: f64 = setting("TPCH_SF", 0.01);
    let mut server = Server::start();
    let peer = peer::load(scale);
    // Numbers with a point are exact decimals, as the standard and the server have it; the peer's default is doubles.
    block_on(async {
        peer.sql("SET datafusion.sql_parser.parse_float_as_decimal = true").await.unwrap();
    });
    block_on(async {
        let db = server.client().await;
        for table in TABLES {
            let rows = load(&db, table, scale).await;
            let expected: usize = table.batches(scale).map(|batch| batch.num_rows()).sum();
            assert_eq!(rows, expected as u64, "{}", table.name);
        }
    });
    for life in ["fresh", "after kill -9", "flushed"] {
        let mut wrong = Vec::new();
        block_on(async {
            let db = server.client().await;
            for query in &queries {
                let mut found = Vec::new();
                for statement in &query.statements {
                    let batches = match gives_rows(statement) {
                        true => db.sql(statement).fetch_all().await,
                        false => db.sql(statement).execute().await.map(|_| Vec::new()),
                    };
                    let batches = batches.unwrap_or_else(|error| panic!("{life} q{}: {error}", query.number));
                    if gives_rows(statement) {
                        found = batches;
                    }
                }
                if counted(&found) != counted(&peer::run(&peer, query).await) {
                    wrong.push(query.number);
                }
            }
        });
        assert!(wrong.is_empty(), "{life}: queries {wrong:?} differ from the peer");
        match life {
            "fresh" => server.kill_and_restart(),
            _ => block_on(async {
                server.client().await.sql("CHECKPOINT").execute().await.unwrap();
            }),
        }
    }
}

/// The rows as texts with how often each is there: order does not count, nor do the last digits of floating point sums.
pub fn counted(batches: &[RecordBatch]) -> BTreeMap<Vec<String>, usize> {
    let mut rows = BTreeMap::new();
    for batch in batches {
        let columns: Vec<Vec<String>> = batch.columns().iter().map(texts).collect();
        for row in 0..batch.num_rows() {
            *rows.entry(columns.iter().map(|column| column[row].clone()).collect()).or_insert(0) += 1;
        }
    }
    rows
}

fn texts(column: &ArrayRef) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    if column.data_type().is_floating() {
        let column = cast(column, &DataType::Float64).unwrap();
        let values = arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(&column);
        return values
            .iter()
            .map(|value| value.map_or_else(|| "NULL".to_owned(), |value| format!("{value:.6e}")))
            .collect();
    }
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options).unwrap();
    (0..column.len()).map(|row| formatter.value(row).to_string()).collect()
}
