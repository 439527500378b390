//! `CALL sparql`: answers of any query over Flight SQL.

use super::*;

/// A dataset `kb` of three triples.
async fn dataset(client: &mut Client) {
    update(client, "CREATE COLLECTION kb AS RDF").await;
    update(
        client,
        "CALL sparql_update('kb', 'INSERT DATA { <urn:a> <urn:n> 1 . <urn:b> <urn:n> 2 . <urn:c> <urn:n> 10 }')",
    )
    .await;
}

/// The lexical forms in the first column, which has terms.
fn values(batches: &[RecordBatch]) -> Vec<String> {
    let column = |batch: &RecordBatch| batch.column(0).as_struct().column_by_name("value").unwrap().clone();
    let columns: Vec<ArrayRef> = batches.iter().map(column).collect();
    columns
        .iter()
        .flat_map(|column| column.as_string::<i32>().iter().flatten().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn answers_of_sparql_keep_their_order_and_terms() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    dataset(&mut client).await;
    let ordered = "CALL sparql('kb', 'SELECT ?n { ?s <urn:n> ?n } ORDER BY DESC(?n)')";
    let info = client.execute(ordered.into(), None).await.unwrap();
    let DataType::Struct(parts) = info.clone().try_decode_schema().unwrap().field(0).data_type().clone() else {
        panic!("a term has parts")
    };
    assert_eq!(
        parts.iter().map(|part| part.name().as_str()).collect::<Vec<_>>(),
        ["kind", "value", "datatype", "language"]
    );
    assert_eq!(values(&fetch(&mut client, info).await.unwrap()), ["10", "2", "1"]);
    let truth = query(&mut client, "CALL sparql('kb', 'ASK { <urn:a> <urn:n> 2 }')").await;
    assert!(!truth[0].column(0).as_boolean().value(0));
    let triples = query(&mut client, "CALL sparql('kb', 'CONSTRUCT WHERE { <urn:a> ?p ?o }')").await;
    assert_eq!((triples[0].num_columns(), values(&triples)), (3, vec!["urn:a".to_owned()]));
    fixture.stop().await;
}

#[tokio::test]
async fn sparql_is_prepared_and_bound() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    dataset(&mut client).await;
    let texts = |texts: &[&str]| {
        let column = Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
        RecordBatch::try_from_iter([("0", column)]).unwrap()
    };
    let mut fixed = client
        .prepare("CALL sparql('kb', 'SELECT ?n { ?s <urn:n> ?n } ORDER BY ?n')".into(), None)
        .await
        .unwrap();
    assert_eq!(fixed.dataset_schema().unwrap().field(0).name(), "n");
    for _ in 0..2 {
        let info = fixed.execute().await.unwrap();
        assert_eq!(values(&fetch(&mut client, info).await.unwrap()), ["1", "2", "10"]);
    }
    // The columns are those of the query that is bound.
    let mut open = client.prepare("CALL sparql('kb', ?)".into(), None).await.unwrap();
    assert_eq!(open.parameter_schema().unwrap().field(0).data_type(), &DataType::Utf8);
    for (text, column) in [("SELECT ?s { ?s <urn:n> 2 }", "s"), ("ASK {}", "boolean")] {
        open.set_parameters(texts(&[text])).unwrap();
        let info = open.execute().await.unwrap();
        assert_eq!(info.clone().try_decode_schema().unwrap().field(0).name(), column);
        assert_eq!(fetch(&mut client, info).await.unwrap()[0].num_rows(), 1);
    }
    open.set_parameters(texts(&["ASK {}", "SELECT ?s { ?s ?p ?o }"])).unwrap();
    assert_code(open.execute().await.unwrap_err(), "07001");
    let mut change = client.prepare("CALL sparql_update('kb', $1)".into(), None).await.unwrap();
    change.set_parameters(texts(&["DELETE WHERE { <urn:a> ?p ?o }"])).unwrap();
    change.execute_update().await.unwrap();
    let info = fixed.execute().await.unwrap();
    assert_eq!(values(&fetch(&mut client, info).await.unwrap()), ["2", "10"]);
    fixture.stop().await;
}

#[tokio::test]
async fn sparql_reads_what_its_transaction_wrote() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    dataset(&mut client).await;
    let transaction = client.begin_transaction().await.unwrap();
    let delete = "CALL sparql_update('kb', 'DELETE WHERE { <urn:b> ?p ?o }')";
    client.execute_update(delete.into(), Some(transaction.clone())).await.unwrap();
    let ordered = "CALL sparql('kb', 'SELECT ?n { ?s <urn:n> ?n } ORDER BY ?n')";
    let inside = client.execute(ordered.into(), Some(transaction.clone())).await.unwrap();
    assert_eq!(values(&fetch(&mut client, inside).await.unwrap()), ["1", "10"]);
    assert_eq!(values(&query(&mut client, ordered).await), ["1", "2", "10"]);
    client.end_transaction(transaction, EndTransaction::Rollback).await.unwrap();
    assert_eq!(values(&query(&mut client, ordered).await), ["1", "2", "10"]);
    fixture.stop().await;
}
