//! Triples as N-Triples, a line each. What is not printed is told in a comment, so that all of it is N-Triples.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use pyralog_models::rdf::TermColumn;

use super::RowWriter;
use super::markdown::RowBudget;

/// Writes rows of columns of terms: those of a triple, or of a quad.
pub struct Triples {
    budget: RowBudget,
}

impl Triples {
    /// At most so many triples; 0: all.
    pub fn new(limit: usize) -> Self {
        Triples {
            budget: RowBudget::new(limit),
        }
    }
}

impl RowWriter for Triples {
    fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let external = |error| ArrowError::ExternalError(Box::new(error));
        let columns: Result<Vec<TermColumn>, _> = batch.columns().iter().map(TermColumn::new).collect();
        let columns = columns.map_err(external)?;
        for row in 0..self.budget.take(batch.num_rows()) {
            for column in &columns {
                if let Some(term) = column.get(row).map_err(external)? {
                    out.extend_from_slice(format!("{term} ").as_bytes());
                }
            }
            out.extend_from_slice(b".\n");
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let mut rest = Vec::new();
        self.budget.write_rest(&mut rest);
        if !rest.is_empty() {
            out.extend_from_slice(b"# ");
            out.append(&mut rest);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use oxrdf::{GraphName, LiteralRef, NamedNodeRef, QuadRef};
    use pyralog_models::rdf::quad_batch;

    #[test]
    fn a_line_a_triple_and_a_comment_on_the_rest() {
        let node = NamedNodeRef::new_unchecked("urn:a");
        let graph = GraphName::DefaultGraph;
        let quad = QuadRef::new(node, node, LiteralRef::new_simple_literal("x\n"), graph.as_ref()).into_owned();
        let batch = quad_batch(&vec![quad; 3]).unwrap().project(&[0, 1, 2]).unwrap();
        let (mut writer, mut out) = (Triples::new(1), Vec::new());
        writer.batch(&batch, &mut out).unwrap();
        writer.finish(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<urn:a> <urn:a> \"x\\n\" .\n# … 2 more rows (3 in all, 1 shown)\n"
        );
    }
}
