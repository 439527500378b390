//! The set functions of SPARQL over columns of ids, as aggregates of the plan. `COUNT` is the plan's own.
//!
//! Null is an error, which makes the result of all but `SAMPLE` an error (section 18.5.1). What a group has so far goes between the phases of
//! an aggregation as ids, which mean the same in all of them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, ListArray, ListBuilder, UInt64Array, UInt64Builder,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use datafusion::common::{HashMap, HashSet};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::context::{MAX_MADE_BYTES, QueryContext};
use crate::error::{Error, ErrorKind, Result};
use crate::rdf::blocking;
use crate::rdf::term_id::{Class, Encoded, Scope, TermId};
use crate::rdf::values::{GroupConcat, Sum, Value, sort_key};

/// Values of numbers that are kept from batch to batch, at most, and those of one more batch.
const MOST_NUMBERS: usize = 1 << 16;

/// Which of the set functions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetFunction {
    /// `SUM`
    Sum,
    /// `AVG`
    Avg,
    /// `MIN`, by the order of `ORDER BY`.
    Min,
    /// `MAX`
    Max,
    /// `SAMPLE`
    Sample,
    /// `GROUP_CONCAT` with this separator.
    GroupConcat(String),
}

impl SetFunction {
    /// The function over a column of ids.
    pub fn call(self, context: &QueryContext, argument: Expr, distinct: bool) -> Expr {
        let name = match &self {
            SetFunction::GroupConcat(_) => "sparql_group_concat".to_owned(),
            other => format!("sparql_{other:?}").to_lowercase(),
        };
        let function = AggregateFunction {
            function: self,
            context: context.clone(),
            // Here and not in the plan, whose rewriting of distinct aggregates would lose the order of what is concatenated.
            distinct,
            name,
            signature: Signature::exact(vec![DataType::UInt64], Volatility::Stable),
        };
        AggregateUDF::from(function).call(vec![argument])
    }
}

#[derive(Clone)]
struct AggregateFunction {
    function: SetFunction,
    context: QueryContext,
    distinct: bool,
    name: String,
    signature: Signature,
}

impl fmt::Debug for AggregateFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for AggregateFunction {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function && self.distinct == other.distinct && self.context.is(&other.context)
    }
}

impl Eq for AggregateFunction {}

impl Hash for AggregateFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
        self.distinct.hash(state);
    }
}

impl AggregateUDFImpl for AggregateFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::UInt64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        let items = DataType::List(Arc::new(Field::new_list_field(DataType::UInt64, true)));
        let field = |part: &str, data_type| Arc::new(Field::new(format!("{}[{part}]", args.name), data_type, true));
        Ok(vec![
            field("ids", items),
            field("count", DataType::UInt64),
            field("failed", DataType::Boolean),
        ])
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        Ok(Box::new(OneGroup(Groups::new(self.clone()))))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _args: AccumulatorArgs) -> DataFusionResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::new(self.clone())))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// One group.
#[derive(Debug)]
struct Group {
    /// Whether one value was an error.
    failed: bool,
    /// How many values came.
    count: u64,
    /// The values so far, where each counts once.
    seen: Option<HashSet<TermId>>,
    result: Running,
}

/// What a function knows of its values.
#[derive(Debug)]
enum Running {
    /// Numbers: integers that are told by their ids, and all others.
    Number { integers: i128, others: Option<Box<Sum>> },
    /// The least or the greatest, and its place in the order (empty for integers that are told by their ids).
    Extreme { id: Option<TermId>, key: Vec<u8> },
    /// The texts.
    Text(GroupConcat),
    /// Any.
    Any(Option<TermId>),
}

impl Group {
    fn new(function: &SetFunction, distinct: bool) -> Group {
        Group {
            failed: false,
            count: 0,
            seen: distinct.then(HashSet::new),
            result: match function {
                SetFunction::Sum | SetFunction::Avg => Running::Number { integers: 0, others: None },
                SetFunction::Min | SetFunction::Max => Running::Extreme { id: None, key: Vec::new() },
                SetFunction::GroupConcat(separator) => Running::Text(GroupConcat::new(separator.as_str())),
                SetFunction::Sample => Running::Any(None),
            },
        }
    }

    /// Takes one value.
    fn add(&mut self, function: &SetFunction, id: TermId, values: &HashMap<TermId, Value>) {
        if self.seen.as_mut().is_some_and(|seen| !seen.insert(id)) {
            return;
        }
        self.count += 1;
        match &mut self.result {
            Running::Number { integers, others } => match id.integer() {
                Some(number) => *integers += i128::from(number),
                None => others.get_or_insert_default().add(values.get(&id)),
            },
            Running::Extreme { id: best, key } => {
                let replaces = |order: std::cmp::Ordering| match function {
                    SetFunction::Max => order.is_gt(),
                    _ => order.is_lt(),
                };
                let key_of = |id: TermId| match id.integer() {
                    Some(number) => sort_key(&Value::Integer(number.into())),
                    None => values.get(&id).map(sort_key).unwrap_or_default(),
                };
                match *best {
                    Some(old) if old == id => {}
                    Some(old) if old.class() == Some(Class::Integer) && id.class() == Some(Class::Integer) => {
                        if replaces(id.cmp(&old)) {
                            *best = Some(id);
                        }
                    }
                    Some(old) => {
                        if key.is_empty() {
                            *key = key_of(old);
                        }
                        let other = key_of(id);
                        // Of equal ones the least id, so that the answer does not depend on who came first.
                        let order = other.cmp(key).then_with(|| match id < old {
                            true if *function == SetFunction::Max => std::cmp::Ordering::Greater,
                            true => std::cmp::Ordering::Less,
                            false => std::cmp::Ordering::Equal,
                        });
                        if replaces(order) {
                            (*best, *key) = (Some(id), other);
                        }
                    }
                    None => {
                        *best = Some(id);
                        if id.class() != Some(Class::Integer) {
                            *key = key_of(id);
                        }
                    }
                }
            }
            Running::Text(text) => match id.integer() {
                Some(number) => text.add(Some(&Value::Integer(number.into()))),
                None => text.add(values.get(&id)),
            },
            Running::Any(any) => *any = any.or(Some(id)),
        }
    }

    /// The result; `None` for an error.
    fn finish(&self, function: &SetFunction, context: &QueryContext) -> Result<Option<TermId>> {
        if self.failed && *function != SetFunction::Sample {
            return Ok(None);
        }
        let value = match &self.result {
            Running::Any(id) | Running::Extreme { id, .. } => return Ok(*id),
            Running::Text(text) => text.clone().finish(),
            Running::Number { integers, others } => {
                let mut sum = others.as_deref().cloned().unwrap_or_default();
                let integers = i64::try_from(*integers).ok().map(|number| Value::Integer(number.into()));
                sum.add(integers.as_ref());
                match function {
                    SetFunction::Avg => i64::try_from(self.count).ok().and_then(|count| sum.average(count)),
                    _ => sum.finish(),
                }
            }
        };
        let Some(value) = value else { return Ok(None) };
        // No set function makes a blank node.
        let id = context.id(Encoded::of(value.into_term().as_ref(), &Scope::new(0)))?;
        Ok(Some(id))
    }

    /// What the next phase must know: ids, how many values they stand for, whether there was an error.
    fn state(&self, function: &SetFunction, context: &QueryContext) -> Result<(Vec<TermId>, u64, bool)> {
        if let Some(seen) = &self.seen {
            return Ok((seen.iter().copied().collect(), self.count, self.failed));
        }
        let partial = match function {
            SetFunction::Avg => &SetFunction::Sum,
            other => other,
        };
        let id = match self.count {
            0 => None,
            _ => self.finish(partial, context)?,
        };
        let failed = self.failed || self.count > 0 && id.is_none();
        Ok((id.into_iter().collect(), self.count, failed))
    }

    /// What it takes beside its own size.
    fn bytes(&self) -> usize {
        let own = match &self.result {
            Running::Number { others, .. } => others.as_ref().map_or(0, |_| size_of::<Sum>()),
            Running::Extreme { key, .. } => key.capacity(),
            Running::Text(text) => text.bytes(),
            Running::Any(_) => 0,
        };
        let seen = self.seen.as_ref().map_or(0, |seen| seen.capacity() * 10);
        own + seen
    }
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Integer(_) | Value::Decimal(_) | Value::Float(_) | Value::Double(_))
}

/// All groups of one phase.
struct Groups {
    function: AggregateFunction,
    groups: Vec<Group>,
    /// What they take beside their own size.
    bytes: usize,
    /// The values behind ids of batches so far, where they are numbers that are added: of joined solutions many have the same.
    numbers: HashMap<TermId, Value>,
    /// Whether the last batch had others.
    has_others: bool,
}

impl Groups {
    fn new(function: AggregateFunction) -> Groups {
        Groups {
            function,
            groups: Vec::new(),
            bytes: 0,
            numbers: HashMap::new(),
            has_others: false,
        }
    }

    fn grow(&mut self, total: usize) {
        let function = &self.function;
        self.groups
            .resize_with(total.max(self.groups.len()), || Group::new(&function.function, function.distinct));
    }

    /// The values behind ids that do not tell them; none for functions that need none.
    fn values(&mut self, ids: &UInt64Array) -> Result<HashMap<TermId, Value>> {
        let context = &self.function.context;
        let ids = || ids.iter().flatten().map(TermId).filter(|id| id.integer().is_none());
        match self.function.function {
            SetFunction::Sample => Ok(HashMap::new()),
            SetFunction::GroupConcat(_) => context.values(ids().collect()),
            SetFunction::Min | SetFunction::Max => context.numbers_or_values(ids().collect()),
            SetFunction::Sum | SetFunction::Avg => {
                let mut values = std::mem::take(&mut self.numbers);
                if values.len() > MOST_NUMBERS {
                    values.clear();
                }
                let new = ids().filter(|id| !values.contains_key(id)).collect();
                let new = context.numbers_or_values(new)?;
                self.has_others = new.values().any(|value| !is_number(value));
                values.extend(new);
                Ok(values)
            }
        }
    }

    /// Keeps values for the next batch.
    fn keep(&mut self, values: HashMap<TermId, Value>) {
        if matches!(self.function.function, SetFunction::Sum | SetFunction::Avg) {
            self.numbers = values;
            if self.has_others {
                self.numbers.retain(|_, value| is_number(value));
            }
        }
    }

    fn update(&mut self, ids: &UInt64Array, groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.grow(total);
        let values = blocking(ids.len(), || self.values(ids))?;
        for (row, &group) in groups.iter().enumerate() {
            if filter.is_some_and(|filter| !filter.is_valid(row) || !filter.value(row)) {
                continue;
            }
            let group = &mut self.groups[group];
            match ids.is_null(row) {
                true => group.failed = true,
                false => {
                    let before = group.bytes();
                    group.add(&self.function.function, TermId(ids.value(row)), &values);
                    self.bytes += group.bytes().saturating_sub(before);
                }
            }
            self.check_bytes()?;
        }
        self.keep(values);
        Ok(())
    }

    fn merge(&mut self, columns: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let lists: &ListArray = columns[0].as_list();
        let ids: &UInt64Array = lists.values().as_primitive::<UInt64Type>();
        let (counts, failed) = (columns[1].as_primitive::<UInt64Type>(), columns[2].as_boolean());
        let values = blocking(ids.len(), || self.values(ids))?;
        for (row, &group) in groups.iter().enumerate() {
            let group = &mut self.groups[group];
            group.failed |= failed.value(row);
            let (before, bytes) = (group.count, group.bytes());
            let (from, to) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
            for at in from..to {
                group.add(&self.function.function, TermId(ids.value(at)), &values);
            }
            if !self.function.distinct {
                // One id stands for as many values.
                group.count = before + counts.value(row);
            }
            self.bytes += group.bytes().saturating_sub(bytes);
            self.check_bytes()?;
        }
        self.keep(values);
        Ok(())
    }

    /// Texts are bounded here, since one batch may make more of them than there is memory: it is counted only behind a batch.
    fn check_bytes(&self) -> Result<()> {
        if self.bytes > MAX_MADE_BYTES && matches!(self.function.function, SetFunction::GroupConcat(_)) {
            let message = format!("GROUP_CONCAT makes more than {MAX_MADE_BYTES} bytes");
            return Err(Error::new(ErrorKind::ResourceExhausted, "53200", message).with_hint("filter before concatenating"));
        }
        Ok(())
    }

    fn take(&mut self, emit: EmitTo) -> Vec<Group> {
        let taken = emit.take_needed(&mut self.groups);
        self.bytes = self.bytes.saturating_sub(taken.iter().map(Group::bytes).sum());
        taken
    }

    fn results(&self, groups: &[Group]) -> Result<ArrayRef> {
        let (function, context) = (&self.function.function, &self.function.context);
        let ids = groups
            .iter()
            .map(|group| Ok(group.finish(function, context)?.map(|id| id.0)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(UInt64Array::from(ids)))
    }

    fn states(&self, groups: &[Group]) -> Result<Vec<ArrayRef>> {
        let mut lists = ListBuilder::new(UInt64Builder::new());
        let (mut counts, mut failures) = (UInt64Builder::new(), BooleanBuilder::new());
        for group in groups {
            let (ids, count, failed) = group.state(&self.function.function, &self.function.context)?;
            ids.iter().for_each(|id| lists.values().append_value(id.0));
            lists.append(true);
            counts.append_value(count);
            failures.append_value(failed);
        }
        Ok(vec![
            Arc::new(lists.finish()),
            Arc::new(counts.finish()),
            Arc::new(failures.finish()),
        ])
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> DataFusionResult<()> {
        Ok(self.update(values[0].as_primitive::<UInt64Type>(), groups, filter, total)?)
    }

    fn evaluate(&mut self, emit: EmitTo) -> DataFusionResult<ArrayRef> {
        let groups = self.take(emit);
        Ok(self.results(&groups)?)
    }

    fn state(&mut self, emit: EmitTo) -> DataFusionResult<Vec<ArrayRef>> {
        let groups = self.take(emit);
        Ok(self.states(&groups)?)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> DataFusionResult<()> {
        Ok(self.merge(values, groups, total)?)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DataFusionResult<Vec<ArrayRef>> {
        // A group a row.
        let mut groups = Groups::new(self.function.clone());
        let rows: Vec<usize> = (0..values[0].len()).collect();
        groups.update(values[0].as_primitive::<UInt64Type>(), &rows, filter, rows.len())?;
        Ok(groups.states(&groups.groups)?)
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<Group>() + self.numbers.capacity() * size_of::<(TermId, Value)>() + self.bytes
    }
}

/// An aggregation without groups, which is one group, there without rows too.
struct OneGroup(Groups);

impl fmt::Debug for OneGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.function.fmt(f)
    }
}

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let rows = vec![0; values[0].len()];
        Ok(self.0.update(values[0].as_primitive::<UInt64Type>(), &rows, None, 1)?)
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        self.0.grow(1);
        ScalarValue::try_from_array(&self.0.results(&self.0.groups)?, 0)
    }

    fn size(&self) -> usize {
        GroupsAccumulator::size(&self.0)
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        self.0.grow(1);
        let states = self.0.states(&self.0.groups)?;
        states.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let rows = vec![0; states[0].len()];
        Ok(self.0.merge(states, &rows, 1)?)
    }
}
