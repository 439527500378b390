//! The Flight SQL server end to end: arrow-flight's own client over a socket, against a database in a fresh directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod fixture;
mod sparql;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, Schema};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    Any, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementUpdate,
    CommandStatementIngest, CommandStatementQuery, DoPutUpdateResult, EndTransaction, ProstMessageExt, SqlInfo, TableDefinitionOptions,
    TableExistsOption, TableNotExistOption,
};
use arrow_flight::{Action, CancelFlightInfoRequest, FlightData, FlightDescriptor, FlightInfo, IpcMessage, SchemaResult};
use futures::{TryStreamExt, stream};
use prost::Message;
use pyralog_models::Database;
use pyralog_server::flight::{FlightOptions, FlightServer};
use tonic::Code;

use fixture::{Client, Fixture};

async fn fetch(client: &mut Client, info: FlightInfo) -> Result<Vec<RecordBatch>, FlightError> {
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    client.do_get(ticket).await?.try_collect().await
}

async fn query(client: &mut Client, sql: &str) -> Vec<RecordBatch> {
    let info = client.execute(sql.to_string(), None).await.unwrap();
    fetch(client, info).await.unwrap()
}

/// Runs a statement that must succeed; the rows it changed.
async fn update(client: &mut Client, sql: &str) -> i64 {
    client.execute_update(sql.to_string(), None).await.unwrap()
}

/// The one number that a query gives.
async fn number(client: &mut Client, sql: &str) -> i64 {
    let batches = query(client, sql).await;
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

/// The rows of the table `t`.
async fn count(client: &mut Client) -> i64 {
    number(client, "SELECT count(*) FROM t").await
}

/// The client's own error types tell the gRPC code in their debug text only.
#[track_caller]
fn assert_code(error: impl std::fmt::Debug, code: &str) {
    assert!(format!("{error:?}").contains(code), "{error:?}");
}

/// What GetFlightInfo takes for a statement outside transactions.
fn descriptor(sql: &str) -> FlightDescriptor {
    let command = CommandStatementQuery {
        query: sql.into(),
        transaction_id: None,
    };
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

fn rows(from: i64, to: i64) -> RecordBatch {
    let names = StringArray::from_iter_values((from..to).map(|i| format!("name {i}")));
    let ids = Int64Array::from_iter_values(from..to);
    RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef), ("name", Arc::new(names) as ArrayRef)]).unwrap()
}

fn ingest(table: &str, missing: TableNotExistOption, exists: TableExistsOption) -> CommandStatementIngest {
    let options = TableDefinitionOptions {
        if_not_exist: missing as i32,
        if_exists: exists as i32,
    };
    CommandStatementIngest {
        table_definition_options: Some(options),
        table: table.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn queries_updates_and_counts() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    assert_eq!(update(&mut client, "CREATE TABLE t (a BIGINT PRIMARY KEY, b VARCHAR)").await, 0);
    assert_eq!(update(&mut client, "INSERT INTO t VALUES (1, 'x'), (2, 'y')").await, 2);
    let batches = query(&mut client, "SELECT a, b FROM t ORDER BY a").await;
    assert_eq!(
        batches[0].schema().field(1).data_type(),
        &DataType::Utf8,
        "no view types on the wire"
    );
    assert_eq!(
        batches[0].column(1).as_string::<i32>().iter().flatten().collect::<Vec<_>>(),
        ["x", "y"]
    );
    fixture.stop().await;
}

#[tokio::test]
async fn a_write_sent_as_a_query_happens_once() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    update(&mut client, "CREATE TABLE t (a BIGINT)").await;
    let info = client.execute("INSERT INTO t VALUES (1)".into(), None).await.unwrap();
    assert_eq!(count(&mut client).await, 1, "it runs at GetFlightInfo");
    assert_eq!(info.total_records, 1);
    assert!(info.clone().try_decode_schema().unwrap().fields().is_empty());
    assert!(
        fetch(&mut client, info.clone())
            .await
            .unwrap()
            .iter()
            .all(|batch| batch.num_rows() == 0)
    );
    assert!(fetch(&mut client, info).await.is_err(), "a ticket is read once");
    assert_eq!(count(&mut client).await, 1);
    fixture.stop().await;
}

#[tokio::test]
async fn prepared_statements() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    update(&mut client, "CREATE TABLE t (id BIGINT, name VARCHAR)").await;
    let mut insert = client.prepare("INSERT INTO t VALUES ($1, $2)".into(), None).await.unwrap();
    assert!(insert.dataset_schema().unwrap().fields().is_empty());
    assert_eq!(insert.parameter_schema().unwrap().fields().len(), 2);
    insert.set_parameters(rows(0, 3)).unwrap();
    assert_eq!(insert.execute_update().await.unwrap(), 3);
    let mut select = client.prepare("SELECT name FROM t WHERE id = $1".into(), None).await.unwrap();
    assert_eq!(select.dataset_schema().unwrap().field(0).name(), "name");
    let ids = Arc::new(Int64Array::from(vec![2, 0])) as ArrayRef;
    select.set_parameters(RecordBatch::try_from_iter([("0", ids)]).unwrap()).unwrap();
    let info = select.execute().await.unwrap();
    let batches = fetch(&mut client, info).await.unwrap();
    let names: Vec<&str> = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten())
        .collect();
    assert_eq!(names, ["name 2", "name 0"], "one run a row, in order");
    select.close().await.unwrap();
    fixture.stop().await;
}

#[tokio::test]
async fn several_rows_of_parameters_are_all_or_nothing() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    update(&mut client, "CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
    let mut insert = client.prepare("INSERT INTO t VALUES ($1)".into(), None).await.unwrap();
    let twice = Arc::new(Int64Array::from(vec![1, 2, 1])) as ArrayRef;
    insert.set_parameters(RecordBatch::try_from_iter([("0", twice)]).unwrap()).unwrap();
    assert_code(insert.execute_update().await.unwrap_err(), "AlreadyExists");
    assert_eq!(count(&mut client).await, 0);
    fixture.stop().await;
}

#[tokio::test]
async fn flight_transactions_commit_and_roll_back() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    update(&mut client, "CREATE TABLE t (id BIGINT, name VARCHAR)").await;
    for (end, want) in [(EndTransaction::Rollback, 0), (EndTransaction::Commit, 2)] {
        let transaction = client.begin_transaction().await.unwrap();
        client
            .execute_update("INSERT INTO t VALUES (1, 'x')".into(), Some(transaction.clone()))
            .await
            .unwrap();
        let mut command = ingest("t", TableNotExistOption::Fail, TableExistsOption::Append);
        command.transaction_id = Some(transaction.clone());
        client.execute_ingest(command, stream::iter([Ok(rows(7, 8))])).await.unwrap();
        let inside = client
            .execute("SELECT count(*) FROM t".into(), Some(transaction.clone()))
            .await
            .unwrap();
        let inside = fetch(&mut client, inside).await.unwrap();
        assert_eq!(inside[0].column(0).as_primitive::<Int64Type>().value(0), 2);
        assert_eq!(count(&mut client).await, 0, "nobody else sees it");
        client.end_transaction(transaction.clone(), end).await.unwrap();
        assert_eq!(count(&mut client).await, want);
        assert!(client.execute("SELECT 1".into(), Some(transaction)).await.is_err(), "it has ended");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn a_statement_prepared_before_a_commit_runs_in_the_next_transaction() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    update(&mut client, "CREATE TABLE t (id BIGINT, name VARCHAR)").await;
    let first = client.begin_transaction().await.unwrap();
    let mut insert = client
        .prepare("INSERT INTO t VALUES ($1, $2)".into(), Some(first.clone()))
        .await
        .unwrap();
    insert.set_parameters(rows(0, 2)).unwrap();
    insert.execute_update().await.unwrap();
    client.end_transaction(first, EndTransaction::Commit).await.unwrap();
    let second = client.begin_transaction().await.unwrap();
    insert.set_parameters(rows(2, 4)).unwrap();
    insert.execute_update().await.unwrap();
    assert_eq!(count(&mut client).await, 2, "the second is not committed");
    client.end_transaction(second, EndTransaction::Rollback).await.unwrap();
    assert_eq!(count(&mut client).await, 2);
    fixture.stop().await;
}

#[tokio::test]
async fn transactions_as_sql_belong_to_the_session() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client_with_session().await;
    let mut other = fixture.client().await;
    update(&mut client, "CREATE TABLE t (a BIGINT)").await;
    update(&mut client, "BEGIN").await;
    update(&mut client, "INSERT INTO t VALUES (1)").await;
    assert_eq!(count(&mut other).await, 0);
    update(&mut client, "COMMIT").await;
    assert_eq!(count(&mut other).await, 1);
    fixture.stop().await;
}

#[tokio::test]
async fn a_session_by_cookie_begins_with_its_first_need() {
    let fixture = Fixture::start().await;
    let mut client = FlightServiceClient::new(fixture.channel().await);
    let probe = client.get_flight_info(descriptor("SELECT 1")).await.unwrap();
    assert!(probe.metadata().get("set-cookie").is_none(), "a probe makes no session");
    let begun = client.get_flight_info(descriptor("BEGIN")).await.unwrap();
    let cookie = begun
        .metadata()
        .get("set-cookie")
        .unwrap()
        .to_str()
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_string();
    assert!(cookie.starts_with("arrow_flight_session_id="));
    let mut again = tonic::Request::new(descriptor("BEGIN"));
    again.metadata_mut().insert("cookie", cookie.parse().unwrap());
    client
        .get_flight_info(again)
        .await
        .expect_err("a transaction is open in that session");
    let mut stale = tonic::Request::new(descriptor("SELECT 1"));
    stale.metadata_mut().insert(
        "cookie",
        format!("arrow_flight_session_id={}", uuid::Uuid::new_v4()).parse().unwrap(),
    );
    assert_eq!(client.get_flight_info(stale).await.unwrap_err().code(), Code::Unauthenticated);
    fixture.stop().await;
}

#[tokio::test]
async fn an_idle_transaction_is_rolled_back_and_says_so() {
    let options = FlightOptions {
        transaction_idle: Duration::from_millis(400),
        ..FlightOptions::default()
    };
    let fixture = Fixture::with(options).await;
    let mut client = fixture.client_with_session().await;
    update(&mut client, "CREATE TABLE t (a BIGINT)").await;
    let transaction = client.begin_transaction().await.unwrap();
    client
        .execute_update("INSERT INTO t VALUES (1)".into(), Some(transaction.clone()))
        .await
        .unwrap();
    update(&mut client, "BEGIN; INSERT INTO t VALUES (2)").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let error = client
        .execute_update("INSERT INTO t VALUES (3)".into(), Some(transaction))
        .await
        .unwrap_err();
    assert_code(error, "Aborted");
    let error = client.execute_update("INSERT INTO t VALUES (4)".into(), None).await.unwrap_err();
    assert_code(error, "Aborted");
    assert_eq!(count(&mut client).await, 0);
    fixture.stop().await;
}

#[tokio::test]
async fn closing_a_session_rolls_back_and_ends_its_token() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client_with_session().await;
    let mut other = fixture.client().await;
    update(&mut client, "CREATE TABLE t (a BIGINT)").await;
    update(&mut client, "BEGIN; INSERT INTO t VALUES (1)").await;
    assert_eq!(count(&mut client).await, 1);
    let mut closed = client.do_action(Action::new("CloseSession", "")).await.unwrap();
    assert_eq!(closed.message().await.unwrap().unwrap().body[..], [8, 1], "closed");
    assert_code(client.execute("SELECT 1".into(), None).await.unwrap_err(), "Unauthenticated");
    assert_eq!(count(&mut other).await, 0);
    fixture.stop().await;
}

#[tokio::test]
async fn ingest_in_every_mode() {
    use {TableExistsOption as E, TableNotExistOption as N};
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    let put = async |missing, exists, batch: RecordBatch| {
        let mut client = fixture.client().await;
        client.execute_ingest(ingest("T", missing, exists), stream::iter([Ok(batch)])).await
    };
    put(N::Fail, E::Append, rows(0, 1)).await.expect_err("append wants a table");
    assert_eq!(put(N::Create, E::Fail, rows(0, 10)).await.unwrap(), 10);
    put(N::Create, E::Fail, rows(0, 10)).await.expect_err("create wants none");
    assert_eq!(put(N::Fail, E::Append, rows(10, 15)).await.unwrap(), 5);
    assert_eq!(put(N::Create, E::Append, rows(15, 20)).await.unwrap(), 5);
    assert_eq!(number(&mut client, "SELECT count(*) FROM \"T\"").await, 20);
    assert_eq!(put(N::Create, E::Replace, rows(0, 3)).await.unwrap(), 3);
    assert_eq!(number(&mut client, "SELECT count(*) FROM \"T\"").await, 3);
    fixture.stop().await;
}

#[tokio::test]
async fn table_schemas_keep_decimals() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    let balance = Decimal128Array::from(vec![10_000]).with_precision_and_scale(18, 2).unwrap();
    let batch = RecordBatch::try_from_iter([("balance", Arc::new(balance) as ArrayRef)]).unwrap();
    let command = ingest("acc", TableNotExistOption::Create, TableExistsOption::Fail);
    client.execute_ingest(command, stream::iter([Ok(batch)])).await.unwrap();
    let request = CommandGetTables {
        table_name_filter_pattern: Some("acc".into()),
        include_schema: true,
        ..Default::default()
    };
    let info = client.get_tables(request).await.unwrap();
    let batches = fetch(&mut client, info).await.unwrap();
    let table = &batches[0];
    assert_eq!(table.column(0).as_string::<i32>().value(0), "pyralog");
    assert_eq!(table.column(1).as_string::<i32>().value(0), "public");
    assert_eq!(table.column(3).as_string::<i32>().value(0), "TABLE");
    let schema = Schema::try_from(IpcMessage(table.column(4).as_binary::<i32>().value(0).to_vec().into())).unwrap();
    assert_eq!(schema.field_with_name("balance").unwrap().data_type(), &DataType::Decimal128(18, 2));
    // A dataset is the table of its quads.
    update(&mut client, "CREATE COLLECTION kb AS RDF").await;
    let request = CommandGetTables {
        include_schema: true,
        ..Default::default()
    };
    let info = client.get_tables(request).await.unwrap();
    let batches = fetch(&mut client, info).await.unwrap();
    let (schemas, names) = (batches[0].column(1).as_string::<i32>(), batches[0].column(2).as_string::<i32>());
    let listed: Vec<String> = (0..batches[0].num_rows())
        .map(|row| format!("{}.{}", schemas.value(row), names.value(row)))
        .collect();
    assert!(
        listed.contains(&"kb.quads".to_owned()) && listed.contains(&"public.acc".to_owned()),
        "{listed:?}"
    );
    fixture.stop().await;
}

#[tokio::test]
async fn metadata_commands() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    update(&mut client, "CREATE TABLE t (a BIGINT, b BIGINT, PRIMARY KEY (b, a))").await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(
        fetch(&mut client, info).await.unwrap()[0].column(0).as_string::<i32>().value(0),
        "pyralog"
    );
    let info = client.get_db_schemas(CommandGetDbSchemas {
        db_schema_filter_pattern: Some("pub%".into()),
        ..Default::default()
    });
    let info = info.await.unwrap();
    assert_eq!(
        fetch(&mut client, info).await.unwrap()[0].column(1).as_string::<i32>().value(0),
        "public"
    );
    let info = client.get_table_types().await.unwrap();
    assert!(fetch(&mut client, info).await.unwrap()[0].num_rows() >= 2);
    let info = client.get_sql_info(vec![]).await.unwrap();
    assert!(fetch(&mut client, info).await.unwrap()[0].num_rows() > 60);
    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName]).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.unwrap()[0].num_rows(), 1);
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    assert!(fetch(&mut client, info).await.unwrap()[0].num_rows() > 15);
    let info = client
        .get_primary_keys(CommandGetPrimaryKeys {
            table: "t".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    let keys = fetch(&mut client, info).await.unwrap();
    assert_eq!(
        keys[0].column(3).as_string::<i32>().iter().flatten().collect::<Vec<_>>(),
        ["b", "a"]
    );
    fixture.stop().await;
}

#[tokio::test]
async fn a_query_is_cancelled_by_its_info() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    let info = client
        .execute(
            "SELECT a.value FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b".into(),
            None,
        )
        .await;
    let info = info.unwrap();
    let mut running = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    assert!(running.try_next().await.unwrap().is_some());
    let body = CancelFlightInfoRequest { info: Some(info.clone()) }.encode_to_vec();
    client.do_action(Action::new("CancelFlightInfo", body)).await.unwrap();
    let error = loop {
        match running.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended as if it were complete"),
            Err(error) => break error,
        }
    };
    assert_code(error, "Cancelled");
    fixture.stop().await;
}

#[tokio::test]
async fn errors_have_codes_and_text() {
    let fixture = Fixture::start().await;
    let mut client = FlightServiceClient::new(fixture.channel().await);
    let status = client.get_flight_info(descriptor("SELEC 1")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("[42601]"), "{}", status.message());
    assert_eq!(status.metadata().get("x-pyralog-sqlstate").unwrap(), "42601");
    let nonsense = client.get_flight_info(FlightDescriptor::new_cmd("nonsense")).await.unwrap_err();
    assert_eq!(nonsense.code(), Code::InvalidArgument);
    let unknown = Any {
        type_url: "type.googleapis.com/x.Y".into(),
        value: Default::default(),
    };
    let unknown = client
        .get_flight_info(FlightDescriptor::new_cmd(unknown.encode_to_vec()))
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    fixture.stop().await;
}

#[tokio::test]
async fn get_schema_runs_nothing() {
    let fixture = Fixture::start().await;
    let mut client = FlightServiceClient::new(fixture.channel().await);
    let descriptor = descriptor("SELECT 1 AS one, 'x' AS two");
    let result: SchemaResult = client.get_schema(descriptor.clone()).await.unwrap().into_inner();
    let schema = Schema::try_from(&result).unwrap();
    assert_eq!(
        schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
        ["one", "two"]
    );
    let poll = client.poll_flight_info(descriptor).await.unwrap().into_inner();
    assert!(poll.flight_descriptor.is_none() && poll.info.unwrap().endpoint.len() == 1);
    fixture.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let fixture = Fixture::start().await;
    let address = fixture.url.trim_start_matches("http://").parse().unwrap();
    let directory = fixture.directory.join("second");
    let database = Database::open(&directory).await.unwrap();
    let error = FlightServer::bind(database, address, FlightOptions::default()).await.err().unwrap();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    fixture.stop().await;
}

#[tokio::test]
async fn large_results_come_in_messages_that_default_clients_take() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    let wide = StringArray::from_iter_values((0..64).map(|_| "x".repeat(200_000)));
    let batch = RecordBatch::try_from_iter([("name", Arc::new(wide) as ArrayRef)]).unwrap();
    let command = ingest("wide", TableNotExistOption::Create, TableExistsOption::Fail);
    assert_eq!(client.execute_ingest(command, stream::iter([Ok(batch)])).await.unwrap(), 64);
    let batches = query(&mut client, "SELECT name FROM wide").await;
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 64);
    fixture.stop().await;
}

#[tokio::test]
async fn parameters_may_come_with_the_update_itself() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    update(&mut client, "CREATE TABLE t (id BIGINT, name VARCHAR)").await;
    // As ADBC and JDBC send it: one DoPut with command, schema and rows.
    let request = arrow_flight::sql::ActionCreatePreparedStatementRequest {
        query: "INSERT INTO t VALUES ($1, $2)".into(),
        transaction_id: None,
    };
    let action = Action::new("CreatePreparedStatement", request.as_any().encode_to_vec());
    let body = client.do_action(action).await.unwrap().message().await.unwrap().unwrap().body;
    let any = Any::decode(&*body).unwrap();
    let created: arrow_flight::sql::ActionCreatePreparedStatementResult = any.unpack().unwrap().unwrap();
    let command = CommandPreparedStatementUpdate {
        prepared_statement_handle: created.prepared_statement_handle,
    };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let messages: Vec<FlightData> = arrow_flight::encode::FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(descriptor))
        .build(stream::iter([Ok(rows(0, 4)), Ok(rows(4, 5))]))
        .try_collect()
        .await
        .unwrap();
    let answer = client
        .do_put(stream::iter(messages))
        .await
        .unwrap()
        .message()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(DoPutUpdateResult::decode(&*answer.app_metadata).unwrap().record_count, 5);
    assert_eq!(count(&mut client).await, 5);
    fixture.stop().await;
}
