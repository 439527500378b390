//! What is ours in a plan, as it travels: scans of partitions, and operators that only yield.

use std::fmt;
use std::sync::Arc;

use datafusion::common::exec_datafusion_err;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension};
use datafusion_proto::protobuf::PhysicalExprNode;
use prost::Message;
use pyralog_consensus::Node;
use pyralog_storage::{RelationId, Timestamp};

use crate::cooperative_joins;
use crate::error::{Error, ErrorKind};
use crate::scan::{Part, PartitionScan, PartitionScanSpec, Predicate, altered};

/// The versions that understand each other's plans: DataFusion's own encoding may change with each.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Clone, PartialEq, Message)]
struct Encoded {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(oneof = "Operator", tags = "2, 3")]
    operator: Option<Operator>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Operator {
    #[prost(message, tag = "2")]
    Scan(Scan),
    #[prost(message, tag = "3")]
    Yield(Yield),
}

/// An operator that hands its input's batches on, and yields.
#[derive(Clone, PartialEq, Message)]
struct Yield {}

/// A [`PartitionScanSpec`].
#[derive(Clone, PartialEq, Message)]
struct Scan {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    relation: u32,
    #[prost(uint32, tag = "3")]
    schema_version: u32,
    #[prost(uint64, tag = "4")]
    timestamp: u64,
    #[prost(message, repeated, tag = "5")]
    parts: Vec<ScanPart>,
    #[prost(uint32, repeated, tag = "6")]
    positions: Vec<u32>,
    #[prost(uint32, repeated, tag = "7")]
    columns: Vec<u32>,
    #[prost(message, repeated, tag = "8")]
    statics: Vec<PhysicalExprNode>,
    #[prost(message, repeated, tag = "9")]
    dynamics: Vec<PhysicalExprNode>,
    #[prost(uint64, optional, tag = "10")]
    limit: Option<u64>,
    #[prost(uint32, tag = "11")]
    batch_size: u32,
    #[prost(uint32, tag = "12")]
    streams: u32,
    #[prost(bool, tag = "13")]
    by_view: bool,
}

#[derive(Clone, PartialEq, Message)]
struct ScanPart {
    #[prost(uint32, tag = "1")]
    partition: u32,
    #[prost(uint64, tag = "2")]
    applied: u64,
}

/// Encodes and decodes what is ours.
#[derive(Clone)]
pub(super) struct Codec {
    node: Arc<Node>,
}

impl Codec {
    /// For plans of this node, and of others that it gets.
    pub(super) fn new(node: Arc<Node>) -> Codec {
        Codec { node }
    }

    fn decode_scan(&self, scan: Scan, context: &TaskContext, converter: &dyn PhysicalProtoConverterExtension) -> Result<PartitionScan> {
        let id = RelationId(scan.relation);
        let partition = self.node.partitions().first();
        let relation = partition.and_then(|partition| partition.storage().relation_schema(id));
        // Dropped, or not yet there.
        let relation = relation.filter(|relation| relation.version == scan.schema_version);
        let relation = relation.ok_or_else(|| DataFusionError::from(altered(&scan.name)))?;
        let mut spec = PartitionScanSpec {
            name: scan.name,
            relation,
            positions: usizes(&scan.positions),
            columns: usizes(&scan.columns),
            predicate: Predicate::default(),
            limit: scan.limit.map(size).transpose()?,
            batch_size: scan.batch_size as usize,
            streams: scan.streams as usize,
            by_view: scan.by_view,
            timestamp: Timestamp(scan.timestamp),
            parts: scan.parts.iter().map(part).collect(),
        };
        let schema = spec.table_schema()?;
        let context = PhysicalPlanDecodeContext::new(context, self);
        let decode = |nodes: &[PhysicalExprNode]| -> Result<Vec<Arc<dyn PhysicalExpr>>> {
            let decoded = nodes.iter().map(|node| converter.proto_to_physical_expr(node, &schema, &context));
            decoded.collect()
        };
        spec.predicate = Predicate {
            statics: decode(&scan.statics)?,
            dynamics: decode(&scan.dynamics)?,
        };
        PartitionScan::received(spec, &self.node)
    }

    fn encode_scan(&self, spec: &PartitionScanSpec, converter: &dyn PhysicalProtoConverterExtension) -> Result<Scan> {
        let encode = |exprs: &[Arc<dyn PhysicalExpr>]| -> Result<Vec<PhysicalExprNode>> {
            exprs.iter().map(|expr| converter.physical_expr_to_proto(expr, self)).collect()
        };
        let parts = spec.parts.iter().map(|part| {
            Ok(ScanPart {
                partition: small(part.partition)?,
                applied: part.applied,
            })
        });
        Ok(Scan {
            name: spec.name.clone(),
            relation: spec.relation.id.0,
            schema_version: spec.relation.version,
            timestamp: spec.timestamp.0,
            parts: parts.collect::<Result<_>>()?,
            positions: smalls(&spec.positions)?,
            columns: smalls(&spec.columns)?,
            statics: encode(&spec.predicate.statics)?,
            dynamics: encode(&spec.predicate.dynamics)?,
            limit: spec.limit.map(|limit| limit as u64),
            batch_size: small(spec.batch_size)?,
            streams: small(spec.streams)?,
            by_view: spec.by_view,
        })
    }
}

fn part(part: &ScanPart) -> Part {
    Part {
        partition: part.partition as usize,
        applied: part.applied,
    }
}

fn usizes(numbers: &[u32]) -> Vec<usize> {
    numbers.iter().map(|number| *number as usize).collect()
}

fn smalls(numbers: &[usize]) -> Result<Vec<u32>> {
    numbers.iter().copied().map(small).collect()
}

fn small(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| exec_datafusion_err!("{number} is too large for a plan that travels"))
}

fn size(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(|_| exec_datafusion_err!("{number} is too large for this machine"))
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let encoded = Encoded::decode(bytes).map_err(|error| exec_datafusion_err!("a plan that arrived cannot be read: {error}"))?;
        if encoded.version != VERSION {
            let message = format!("the plan comes from version {}, and this node runs {VERSION}", encoded.version);
            return Err(Error::new(ErrorKind::Unavailable, "08P01", message)
                .with_hint("run one version on all nodes")
                .into());
        }
        match (encoded.operator, inputs) {
            (Some(Operator::Scan(scan)), []) => {
                let scan = self.decode_scan(scan, context, converter)?;
                Ok(DataSourceExec::from_data_source(scan))
            }
            (Some(Operator::Yield(Yield {})), [input]) => cooperative_joins::yielding(input),
            _ => Err(exec_datafusion_err!(
                "a plan that arrived has an operator that this node does not know"
            )),
        }
    }

    fn try_encode(&self, plan: Arc<dyn ExecutionPlan>, bytes: &mut Vec<u8>, converter: &dyn PhysicalProtoConverterExtension) -> Result<()> {
        let scan = plan.downcast_ref::<DataSourceExec>();
        let operator = match scan.and_then(|scan| scan.data_source().downcast_ref::<PartitionScan>()) {
            Some(scan) => Operator::Scan(self.encode_scan(scan.spec(), converter)?),
            None if cooperative_joins::yields(plan.as_ref()) => Operator::Yield(Yield {}),
            None => return Err(exec_datafusion_err!("{} does not travel", plan.name())),
        };
        let encoded = Encoded {
            version: VERSION.to_owned(),
            operator: Some(operator),
        };
        bytes.extend_from_slice(&encoded.encode_to_vec());
        Ok(())
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codec")
    }
}
