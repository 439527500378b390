//! Operators of SPARQL over columns of ids: one function of the plan each, so that the optimizer sees conditions, constants and variables.
//!
//! Null stands for an unbound variable and for an error. Each combination of arguments is worked out once a batch.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, UInt64Type};
use datafusion::common::HashMap;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility};

use oxrdf::BlankNode;

use super::context::QueryContext;
use crate::error::{Error, ErrorKind, Result};
use crate::rdf::blocking;
use crate::rdf::term_id::{Class, Encoded, Scope, TermId};
use crate::rdf::values::{self, Datatype, Function, LONGEST, TooLong, Value};

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// The effective boolean value.
    Truth,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `+` in front.
    Plus,
    /// `-` in front.
    Minus,
    /// A cast to a datatype.
    Cast(Datatype),
    /// A function by name.
    Function(Function),
    /// `RAND`
    Random,
    /// `BNODE`: a new blank node, or the one of a label and a solution.
    Blank,
}

impl Operator {
    /// Whether it gives a truth value rather than a term.
    pub fn is_condition(self) -> bool {
        matches!(self, Operator::Equal | Operator::Less | Operator::LessOrEqual | Operator::Truth)
    }

    fn volatility(self) -> Volatility {
        match self {
            Operator::Function(Function::Uuid | Function::StrUuid) | Operator::Random | Operator::Blank => Volatility::Volatile,
            _ => Volatility::Stable,
        }
    }

    /// Whether it matters how a number is written.
    fn sees_text(self) -> bool {
        matches!(self, Operator::Cast(_) | Operator::Function(_))
    }

    /// The truth value; `None`: an error.
    fn test(self, arguments: &[Value]) -> Option<bool> {
        match (self, arguments) {
            (Operator::Equal, [left, right]) => values::equals(left, right),
            (Operator::Less, [left, right]) => values::less_than(left, right),
            (Operator::LessOrEqual, [left, right]) => values::less_than_or_equal(left, right),
            (Operator::Truth, [value]) => values::effective_boolean(value),
            _ => None,
        }
    }

    /// The term; `None`: an error of the expression.
    fn compute(self, arguments: &[Value]) -> Result<Option<Value>> {
        Ok(match (self, arguments) {
            (Operator::Add, [left, right]) => values::add(left, right),
            (Operator::Subtract, [left, right]) => values::subtract(left, right),
            (Operator::Multiply, [left, right]) => values::multiply(left, right),
            (Operator::Divide, [left, right]) => values::divide(left, right),
            (Operator::Plus, [value]) => values::unary_plus(value),
            (Operator::Minus, [value]) => values::unary_minus(value),
            (Operator::Cast(datatype), [value]) => values::cast(value, datatype),
            (Operator::Function(function), arguments) => values::call(function, arguments).map_err(|TooLong| too_long(function))?,
            (Operator::Random, []) => random().map(|number| Value::Double(number.into())),
            (Operator::Blank, []) => Some(Value::Blank(BlankNode::default())),
            (Operator::Blank, [Value::String(label), Value::Blank(solution)]) => {
                Some(Value::Blank(BlankNode::new_unchecked(format!("{} {label}", solution.as_str()))))
            }
            _ => None,
        })
    }

    /// The truth value where ids alone tell it.
    fn test_ids(self, ids: &[TermId]) -> Option<bool> {
        let integers = || ids.iter().all(|id| id.class() == Some(Class::Integer));
        match (self, ids) {
            // Inlined integers are in their order.
            (Operator::Equal, [left, right]) if left == right && left.class() == Some(Class::Iri) => Some(true),
            (Operator::Equal, [left, right]) if integers() => Some(left == right),
            (Operator::Less, [left, right]) if integers() => Some(left < right),
            (Operator::LessOrEqual, [left, right]) if integers() => Some(left <= right),
            _ => None,
        }
    }

    /// The operator as an expression of a plan.
    pub fn call(self, context: &QueryContext, arguments: Vec<Expr>) -> Expr {
        let function = OperatorFunction {
            operator: self,
            context: context.clone(),
            signature: Signature::one_of(
                vec![
                    TypeSignature::Nullary,
                    TypeSignature::Uniform(arguments.len().max(1), vec![DataType::UInt64]),
                ],
                self.volatility(),
            ),
            name: format!("sparql_{self:?}").to_lowercase(),
        };
        ScalarUDF::from(function).call(arguments)
    }
}

struct OperatorFunction {
    operator: Operator,
    context: QueryContext,
    signature: Signature,
    name: String,
}

impl fmt::Debug for OperatorFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for OperatorFunction {
    fn eq(&self, other: &Self) -> bool {
        self.operator == other.operator && self.context.is(&other.context)
    }
}

impl Eq for OperatorFunction {}

impl Hash for OperatorFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.operator.hash(state);
    }
}

impl ScalarUDFImpl for OperatorFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(match self.operator.is_condition() {
            true => DataType::Boolean,
            false => DataType::UInt64,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let columns = arguments
            .args
            .iter()
            .map(|argument| argument.to_array(arguments.number_rows))
            .collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        let columns: Vec<&UInt64Array> = columns.iter().map(|column| column.as_primitive::<UInt64Type>()).collect();
        Ok(ColumnarValue::Array(blocking(arguments.number_rows, || {
            self.evaluate(&columns, arguments.number_rows)
        })?))
    }
}

impl OperatorFunction {
    fn evaluate(&self, columns: &[&UInt64Array], rows: usize) -> Result<ArrayRef> {
        let each_row_anew = self.operator.volatility() == Volatility::Volatile;
        if let [column] = columns
            && !each_row_anew
            && !self.operator.is_condition()
            && self.context.memo().pays()
        {
            return self.evaluate_terms(column);
        }
        // The distinct combinations, and which of them each row has; an argument that is null makes an error.
        let mut combinations: Vec<Vec<TermId>> = Vec::new();
        let mut known: HashMap<Vec<TermId>, usize> = HashMap::new();
        let mut of_row: Vec<Option<usize>> = Vec::with_capacity(rows);
        for row in 0..rows {
            if columns.iter().any(|column| column.is_null(row)) {
                of_row.push(None);
                continue;
            }
            let ids: Vec<TermId> = columns.iter().map(|column| TermId(column.value(row))).collect();
            let at = match known.get(&ids) {
                Some(at) if !each_row_anew => *at,
                _ => {
                    combinations.push(ids.clone());
                    known.insert(ids, combinations.len() - 1);
                    combinations.len() - 1
                }
            };
            of_row.push(Some(at));
        }
        match self.operator.is_condition() {
            true => {
                let answers = self.test_all(&combinations)?;
                let rows = of_row.into_iter().map(|at| answers.get(at?).copied().flatten());
                Ok(Arc::new(BooleanArray::from_iter(rows)))
            }
            false => {
                let answers = self.compute_all(&combinations)?;
                let rows = of_row.into_iter().map(|at| answers.get(at?).copied().flatten());
                Ok(Arc::new(UInt64Array::from_iter(rows.map(|id| id.map(|id| id.0)))))
            }
        }
    }

    /// As [`Self::evaluate`], of one argument, and what was worked out before is not worked out again.
    fn evaluate_terms(&self, column: &UInt64Array) -> Result<ArrayRef> {
        let memo = self.context.memo();
        let (mut answers, left) = memo.known(self.operator, column.iter().map(|id| id.map(TermId)));
        if !left.is_empty() {
            let mut terms: Vec<TermId> = left.iter().map(|(_, term)| *term).collect();
            terms.sort_unstable();
            terms.dedup();
            let combinations: Vec<Vec<TermId>> = terms.iter().map(|term| vec![*term]).collect();
            let found = self.compute_all(&combinations)?;
            for (row, term) in left {
                answers[row] = terms.binary_search(&term).ok().and_then(|at| found[at]);
            }
            memo.keep(self.operator, terms.into_iter().zip(found));
        }
        Ok(Arc::new(UInt64Array::from_iter(answers.into_iter().map(|id| id.map(|id| id.0)))))
    }

    fn test_all(&self, combinations: &[Vec<TermId>]) -> Result<Vec<Option<bool>>> {
        let mut answers: Vec<Option<bool>> = combinations.iter().map(|ids| self.operator.test_ids(ids)).collect();
        let left: Vec<usize> = (0..answers.len()).filter(|&i| answers[i].is_none()).collect();
        let values = self.values(left.iter().map(|&i| &combinations[i]))?;
        for i in left {
            answers[i] = values_of(&combinations[i], &values).and_then(|values| self.operator.test(&values));
        }
        Ok(answers)
    }

    fn compute_all(&self, combinations: &[Vec<TermId>]) -> Result<Vec<Option<TermId>>> {
        let values = self.values(combinations.iter())?;
        // Operators make no blank nodes.
        let scope = Scope::new(0);
        combinations
            .iter()
            .map(|ids| {
                self.check_arguments(ids, &values)?;
                let value = match values_of(ids, &values) {
                    Some(values) => self.operator.compute(&values)?,
                    None => None,
                };
                value
                    .map(|value| self.context.id(Encoded::of(value.into_term().as_ref(), &scope)))
                    .transpose()
            })
            .collect()
    }

    /// Refuses arguments that are long together, before they are put together.
    fn check_arguments(&self, ids: &[TermId], values: &HashMap<TermId, Value>) -> Result<()> {
        let length = |id: &TermId| match values.get(id) {
            Some(Value::String(text) | Value::LanguageString { value: text, .. }) => text.len(),
            _ => 0,
        };
        match self.operator {
            Operator::Function(function) if ids.iter().map(length).sum::<usize>() > 4 * LONGEST => Err(too_long(function)),
            _ => Ok(()),
        }
    }

    fn values<'a>(&self, combinations: impl Iterator<Item = &'a Vec<TermId>>) -> Result<HashMap<TermId, Value>> {
        let ids = combinations.flatten().copied().collect();
        match self.operator.sees_text() {
            true => self.context.values(ids),
            false => self.context.numbers_or_values(ids),
        }
    }
}

fn too_long(function: Function) -> Error {
    let name = format!("{function:?}").to_uppercase();
    let message = format!("{name} makes a string of more than {LONGEST} bytes");
    Error::new(ErrorKind::ResourceExhausted, "54000", message)
}

/// A number from 0 to below 1; `None` when the system gives no random bytes.
fn random() -> Option<f64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok()?;
    // A double has 53 bits.
    Some((u64::from_le_bytes(bytes) >> 11) as f64 / (1_u64 << 53) as f64)
}

fn values_of(ids: &[TermId], values: &HashMap<TermId, Value>) -> Option<Vec<Value>> {
    ids.iter().map(|id| values.get(id).cloned()).collect()
}
