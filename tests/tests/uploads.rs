//! Ingest: its modes, its atomicity, inside transactions, and when the client goes away in the middle.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use pyralog_client::arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use pyralog_client::{Batches, Client, ErrorKind};
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::Server;

fn batch(start: i64, rows: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(start..start + rows));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((start..start + rows).map(|i| format!("name {i}"))));
    RecordBatch::try_from_iter([("id", ids), ("name", names)]).unwrap()
}

async fn count(db: &Client) -> i64 {
    db.sql("SELECT count(*) FROM t").fetch_scalar().await.unwrap()
}

#[test]
fn all_modes() {
    let server = Server::start();
    block_on(async {
        let db = server.client().await;
        assert_eq!(db.table("t").insert(batch(0, 1)).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(db.table("t").create_from(batch(0, 10)).await.unwrap(), 10);
        assert_eq!(
            db.table("t").create_from(batch(0, 10)).await.unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert_eq!(db.table("t").insert(vec![batch(10, 5), batch(15, 5)]).await.unwrap(), 10);
        assert_eq!(count(&db).await, 20);
        assert_eq!(db.table("t").replace_from(batch(0, 3)).await.unwrap(), 3);
        assert_eq!(count(&db).await, 3);
        assert_eq!(db.table("t").create_or_insert(batch(3, 2)).await.unwrap(), 2);
        assert_eq!(count(&db).await, 5);
        assert_eq!(db.table("u").create_or_insert(batch(0, 2)).await.unwrap(), 2);
        let copied = db
            .table("copy")
            .create_from(db.sql("SELECT * FROM t").fetch().await.unwrap())
            .await
            .unwrap();
        assert_eq!(copied, 5);
    });
}

#[test]
fn columns_go_by_name_and_defaults_fill_in() {
    let server = Server::start();
    block_on(async {
        let db = server
            .client_with_table("t (name VARCHAR, extra INT DEFAULT 7, id BIGINT PRIMARY KEY)")
            .await;
        db.table("t").insert(batch(1, 2)).await.unwrap();
        let row = db
            .sql("SELECT id, name, extra FROM t WHERE id = 2")
            .fetch_optional()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (
                row.get::<i64>(0).unwrap(),
                row.get::<String>(1).unwrap(),
                row.get::<i64>(2).unwrap()
            ),
            (2, "name 2".into(), 7)
        );
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![9]));
        db.table("t")
            .insert(RecordBatch::try_from_iter([("id", narrow)]).unwrap())
            .await
            .unwrap();
        assert_eq!(count(&db).await, 3);
        let unknown: ArrayRef = Arc::new(Int32Array::from(vec![9]));
        let error = db
            .table("t")
            .insert(RecordBatch::try_from_iter([("nothing", unknown)]).unwrap())
            .await
            .unwrap_err();
        assert!(error.message().contains("nothing"), "{error}");
    });
}

#[test]
fn one_wrong_row_keeps_all_out() {
    let server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY, name VARCHAR NOT NULL)").await;
        db.sql("INSERT INTO t VALUES (5000, 'there')").execute().await.unwrap();
        let error = db
            .table("t")
            .insert((0..10).map(|i| batch(i * 1000, 1000)).collect::<Vec<_>>())
            .await
            .unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Constraint, Some("23505")));
        assert_eq!(count(&db).await, 1);
        let error = db.table("t").insert(vec![batch(0, 10), batch(5, 1)]).await.unwrap_err();
        assert_eq!(error.code(), Some("23505"), "a key twice in one insert");
        assert_eq!(count(&db).await, 1);
    });
}

#[test]
fn a_transaction_covers_an_ingest() {
    let server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY, name VARCHAR)").await;
        let tx = db.begin().await.unwrap();
        assert_eq!(tx.table("t").insert(batch(0, 100)).await.unwrap(), 100);
        assert_eq!(tx.sql("SELECT count(*) FROM t").fetch_scalar::<i64>().await.unwrap(), 100);
        assert_eq!(count(&db).await, 0);
        tx.rollback().await.unwrap();
        assert_eq!(count(&db).await, 0);
        let tx = db.begin().await.unwrap();
        tx.table("t").insert(batch(0, 100)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(count(&db).await, 100);
    });
}

#[test]
fn an_upload_that_breaks_off_inserts_nothing() {
    let server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY, name VARCHAR)").await;
        let slowly = |fails_at: i64| {
            stream::iter(0..).then(move |i| async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if i == fails_at {
                    Err(std::io::Error::other("the source broke"))
                } else {
                    Ok(batch(i * 100, 100))
                }
            })
        };
        let error = db
            .table("t")
            .insert(Batches::from_stream(batch(0, 0).schema(), slowly(40)))
            .await
            .unwrap_err();
        assert!(error.message().contains("the source broke"), "{error}");
        let table = db.table("t");
        let endless = table.insert(Batches::from_stream(batch(0, 0).schema(), slowly(-1)));
        assert!(tokio::time::timeout(Duration::from_millis(500), endless).await.is_err());
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(count(&db).await, 0);
        assert_eq!(db.table("t").insert(batch(0, 100)).await.unwrap(), 100, "nothing is locked");
    });
}

/// Other clients (Go's, for one) cancel with the reset code `CANCEL`, which tonic takes for the stream's end. The server must know
/// better.
#[test]
fn a_cancelled_upload_of_another_client_inserts_nothing() {
    use arrow_flight::encode::FlightDataEncoderBuilder;
    use arrow_flight::flight_service_client::FlightServiceClient;
    use arrow_flight::sql::{CommandStatementIngest, ProstMessageExt, TableDefinitionOptions, TableExistsOption, TableNotExistOption};
    use futures::TryStreamExt;
    use prost::Message;

    let server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY, name VARCHAR)").await;
        let definition = TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Fail.into(),
            if_exists: TableExistsOption::Append.into(),
        };
        let command = CommandStatementIngest {
            table_definition_options: Some(definition),
            table: "t".into(),
            ..Default::default()
        };
        let descriptor = arrow_flight::FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        for pause_ms in [50, 200, 500] {
            let batches = stream::iter(0..).then(|i| async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(batch(i * 100, 100))
            });
            let data = FlightDataEncoderBuilder::new()
                .with_flight_descriptor(Some(descriptor.clone()))
                .build(batches);
            let data = data.filter_map(|message| std::future::ready(message.ok()));
            let endpoint = tonic::transport::Endpoint::from_shared(server.flight_url().replace("grpc", "http")).unwrap();
            let mut flight = FlightServiceClient::new(endpoint.connect().await.unwrap());
            let mut request = tonic::Request::new(data);
            let cancel = request.cancellation_handle();
            let call = tokio::spawn(async move {
                let answers = flight.do_put(request).await?.into_inner();
                answers.try_collect::<Vec<_>>().await
            });
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            cancel.cancel();
            assert!(call.await.unwrap().is_err(), "a cancelled upload was acknowledged");
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(count(&db).await, 0, "part of a cancelled upload is there");
        }
    });
}
