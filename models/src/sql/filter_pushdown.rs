//! DataFusion's pushdown of filters through the physical plan, where it is safe.
//!
//! On its way down, a filter's columns are found again by name in each operator's schema, and physical schemas have no qualifiers: where
//! two columns have one name (`a.id` and `b.id` behind a join), the filter of one is put on the other, and rows are lost. Plans with such
//! a schema are left as they are; their filters have been pushed by the logical optimizer, which knows qualifiers.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;

/// DataFusion's physical optimizer with its filter pushdown guarded.
pub(crate) fn guarded_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let guard = |rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>| -> Arc<dyn PhysicalOptimizerRule + Send + Sync> {
        if rule.name().starts_with("FilterPushdown") {
            Arc::new(Guarded { rule })
        } else {
            rule
        }
    };
    PhysicalOptimizer::new().rules.into_iter().map(guard).collect()
}

#[derive(Debug)]
struct Guarded {
    rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>,
}

impl PhysicalOptimizerRule for Guarded {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if has_ambiguous_names(&plan) {
            Ok(plan)
        } else {
            self.rule.optimize(plan, config)
        }
    }

    fn name(&self) -> &str {
        self.rule.name()
    }

    fn schema_check(&self) -> bool {
        self.rule.schema_check()
    }
}

/// Whether some operator gives two columns of one name. Without recursion: plans may be deep.
fn has_ambiguous_names(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut waiting = vec![plan];
    while let Some(node) = waiting.pop() {
        let schema = node.schema();
        let mut names = HashSet::with_capacity(schema.fields().len());
        if !schema.fields().iter().all(|field| names.insert(field.name())) {
            return true;
        }
        waiting.extend(node.children());
    }
    false
}
