//! `SERVICE`: a pattern that another endpoint evaluates, joined with the solutions before it.
//!
//! The operator reads the solutions before it first, and asks when its own first row is asked for. Where they have few different values for
//! the variables that the pattern has too, these go along as VALUES, in blocks (the bound join of Schwarte et al., "FedX", 2011).

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use spargebra::algebra::GraphPattern;
use spargebra::term::NamedNodePattern;

use super::context::QueryContext;
use super::pattern::Translator;
use super::service_run::ServiceExec;
use super::solutions::{Binding, Solutions};
use super::triple::Graphs;
use super::{scope, written};
use crate::error::{Error, Result};

/// A SERVICE of a query.
#[derive(Debug, Clone, Copy)]
pub struct Service<'a> {
    /// The endpoint.
    pub name: &'a NamedNodePattern,
    /// What it is asked.
    pub inner: &'a GraphPattern,
    /// Whether one that fails counts as a solution that binds nothing.
    pub silent: bool,
}

impl<'a> Service<'a> {
    /// The pattern as a SERVICE, if it is one.
    pub fn of(pattern: &'a GraphPattern) -> Option<Service<'a>> {
        match pattern {
            GraphPattern::Service { name, inner, silent } => Some(Service {
                name,
                inner,
                silent: *silent,
            }),
            _ => None,
        }
    }

    fn has_variable(&self) -> bool {
        matches!(self.name, NamedNodePattern::Variable(_))
    }
}

/// Where an endpoint's IRI comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The query's text.
    Iri(String),
    /// This column of the input, the value of a variable.
    Column(String),
}

/// A variable of the pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// The column of the input with its values.
    pub input: Option<String>,
    /// The new column with its values, and whether a row may be without one.
    pub output: Option<(String, bool)>,
    /// Whether each solution of the pattern binds it.
    pub certain: bool,
}

/// What is asked, as planned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Request {
    /// Whom.
    pub endpoint: Endpoint,
    /// The endpoint as the query has it, for people.
    pub name: String,
    /// Against what the endpoint resolves IRIs that it computes.
    pub base: Option<String>,
    /// The pattern's text, as part of a group.
    pub body: String,
    /// The pattern's variables.
    pub slots: Vec<Slot>,
    /// Whether a failure counts as a solution that binds nothing.
    pub silent: bool,
    /// Whether rows stay that agree with no solution.
    pub keeps_all: bool,
}

impl Translator<'_> {
    /// The join of a pattern and a SERVICE: the pattern comes first, since it binds variables that the SERVICE may need.
    pub fn join_service(&mut self, left: &GraphPattern, right: &GraphPattern, graphs: &Graphs) -> Result<Option<Solutions>> {
        let (first, service) = match (Service::of(left), Service::of(right)) {
            (Some(service), None) => (right, service),
            (Some(service), Some(other)) if service.has_variable() && !other.has_variable() => (right, service),
            (_, Some(service)) => (left, service),
            (None, None) => return Ok(None),
        };
        let first = self.pattern(first, graphs)?.visible();
        self.service(first, service, false).map(Some)
    }

    /// Solutions with those of a SERVICE that agree with them; with `keeps_all` also those with which none agrees.
    pub fn service(&mut self, left: Solutions, service: Service<'_>, keeps_all: bool) -> Result<Solutions> {
        let endpoint = match service.name {
            NamedNodePattern::NamedNode(iri) => Endpoint::Iri(iri.as_str().to_owned()),
            NamedNodePattern::Variable(variable) => match left.variables.get(variable.as_str()) {
                Some(binding) => Endpoint::Column(binding.column.clone()),
                None if service.silent => return Ok(left),
                None => {
                    let message = format!("SERVICE {variable}: nothing before it binds {variable}");
                    return Err(Error::invalid("42703", message).with_hint("bind it in the same group, by a triple or by VALUES"));
                }
            },
        };
        let certain = match service.silent {
            true => scope::Names::new(),
            false => scope::certain(service.inner),
        };
        let mut names = BTreeSet::new();
        service.inner.on_in_scope_variable(|variable| {
            names.insert(variable.as_str());
        });
        let mut variables = left.variables;
        let mut slots = Vec::new();
        for name in names {
            let bound = variables.get(name).cloned();
            let certain = certain.contains(name);
            let has_value = bound.as_ref().is_some_and(|bound| !bound.optional);
            let output = (!has_value).then(|| (self.names.fresh(name), keeps_all || !certain));
            if let Some((column, optional)) = &output {
                variables.insert(name.to_owned(), Binding::new(column.clone(), *optional));
            }
            slots.push(Slot {
                name: name.to_owned(),
                input: bound.map(|bound| bound.column),
                output,
                certain,
            });
        }
        let request = Request {
            endpoint,
            name: service.name.to_string(),
            base: self.base.as_ref().map(|base| base.as_str().to_owned()),
            body: written::unit(service.inner),
            slots,
            silent: service.silent,
            keeps_all,
        };
        let node = Node::new(left.plan, self.context.clone(), request)?;
        Ok(Solutions {
            plan: LogicalPlan::Extension(Extension { node: Arc::new(node) }),
            variables,
            order: Vec::new(),
            estimate: None,
        })
    }
}

#[derive(Clone)]
struct Node {
    input: LogicalPlan,
    context: QueryContext,
    request: Request,
    schema: DFSchemaRef,
}

impl Node {
    fn new(input: LogicalPlan, context: QueryContext, request: Request) -> DataFusionResult<Node> {
        let outputs = request.slots.iter().filter_map(|slot| slot.output.as_ref());
        let fields: Vec<Field> = outputs
            .map(|(name, optional)| Field::new(name, DataType::UInt64, *optional))
            .collect();
        let new = DFSchema::from_unqualified_fields(fields.into(), HashMap::new())?;
        let schema = Arc::new(input.schema().join(&new)?);
        Ok(Node {
            input,
            context,
            request,
            schema,
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let silent = if self.silent { "SILENT " } else { "" };
        let optional = if self.keeps_all { "OPTIONAL " } else { "" };
        write!(f, "Service: {optional}{silent}{} {{ {} }}", self.name, self.body.trim())
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.request)
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.context.is(&other.context) && self.request == other.request && self.input == other.input
    }
}

impl Eq for Node {}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.request.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

// Conditions on it stay above it, as is the default.
impl UserDefinedLogicalNodeCore for Node {
    fn name(&self) -> &'static str {
        "Service"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.request)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        match (inputs.pop(), inputs.pop()) {
            (Some(input), None) => Node::new(input, self.context.clone(), self.request.clone()),
            _ => Err(DataFusionError::Internal("Service takes one input".to_owned())),
        }
    }
}

/// Plans SERVICE.
#[derive(Debug)]
pub struct ServicePlanner;

#[async_trait]
impl ExtensionPlanner for ServicePlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(node), [input]) = (node.as_any().downcast_ref::<Node>(), physical_inputs) else {
            return Ok(None);
        };
        let schema = Arc::clone(node.schema.inner());
        let service = ServiceExec::new(Arc::clone(input), node.request.clone(), node.context.clone(), schema)?;
        Ok(Some(Arc::new(service)))
    }
}
