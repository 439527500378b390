//! Bulk insert of quads: a stream of batches with the columns of `kb.quads`; one atomic change.

use datafusion::arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use super::dataset::{DatasetDefinition, QUAD};
use super::dictionary::fits;
use super::term_column::{self, TermColumn};
use super::term_id::{Class, Encoded, Scope, TermId};
use super::writer::{QuadIds, Writer};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::session::OpenTransaction;

/// Adds quads to a dataset; how many came.
pub(crate) async fn ingest(
    engine: &Engine,
    transaction: &mut OpenTransaction,
    dataset: &DatasetDefinition,
    mut rows: SendableRecordBatchStream,
) -> Result<u64> {
    // Blank nodes of this stream are no others'.
    let scope = Scope::new(engine.catalog.allocate_rows(dataset.terms.id, 1).await?);
    let mut writer = Writer::new(dataset);
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        if batch.num_rows() == 0 {
            continue;
        }
        let terms = encode(&batch, &scope)?;
        let ids = writer.ids(transaction, &terms).await?;
        let quads: Vec<QuadIds> = ids.chunks_exact(4).map(|quad| [quad[0], quad[1], quad[2], quad[3]]).collect();
        writer.put(transaction, &quads).await?;
        count += quads.len() as u64;
    }
    Ok(count)
}

/// The terms of a batch, four a quad.
pub fn encode(batch: &RecordBatch, scope: &Scope) -> Result<Vec<Encoded>> {
    let schema = batch.schema();
    if let Some(other) = schema.fields().iter().find(|field| !QUAD.contains(&field.name().as_str())) {
        let columns = QUAD.join(", ");
        return Err(Error::invalid(
            "42703",
            format!("quads have no column {}; they have {columns}", other.name()),
        ));
    }
    let columns = QUAD
        .iter()
        .map(|name| {
            let column: ArrayRef = match batch.column_by_name(name) {
                Some(column) => column.clone(),
                None => new_null_array(&term_column::data_type(), batch.num_rows()),
            };
            TermColumn::new(&column)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut terms = Vec::with_capacity(4 * batch.num_rows());
    for row in 0..batch.num_rows() {
        for (position, column) in columns.iter().enumerate() {
            terms.push(match column.get(row)? {
                Some(term) => {
                    let term = Encoded::of(term, scope);
                    let class = term.class();
                    if !fits(class, position) {
                        return Err(Error::invalid(
                            "22000",
                            format!("a {} cannot be the {} of a quad", kind(class), QUAD[position]),
                        ));
                    }
                    term
                }
                None if position == 3 => Encoded::Inline(TermId::DEFAULT_GRAPH),
                None => return Err(Error::invalid("22004", format!("a quad without {}", QUAD[position]))),
            });
        }
    }
    Ok(terms)
}

fn kind(class: Class) -> &'static str {
    match class {
        Class::Iri => "IRI",
        Class::Blank => "blank node",
        _ => "literal",
    }
}
