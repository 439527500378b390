//! The answer to GetSqlInfo: what this server is and can do. An empty request means all of it.

use std::collections::HashMap;

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedGroupBy,
    SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions,
    SqlSupportsConvert, SqlTransactionIsolationLevel, SupportedSqlGrammar,
};
use datafusion::functions;
use datafusion::logical_expr::ScalarUDF;

use crate::flight::options::FlightOptions;

/// Words that have a meaning here beyond SQL:2003.
const KEYWORDS: [&str; 26] = [
    "ANALYZE",
    "ANTI",
    "ASOF",
    "CHECKPOINT",
    "COLLECTION",
    "COLLECTIONS",
    "COMPACT",
    "COPY",
    "DATABASE",
    "DESCRIBE",
    "EXPLAIN",
    "EXTERNAL",
    "GRAPH",
    "HYPERGRAPH",
    "ILIKE",
    "INDEX",
    "LIMIT",
    "MATCH_CONDITION",
    "OFFSET",
    "QUALIFY",
    "RDF",
    "REPLACE",
    "RETURNING",
    "SEMI",
    "SHOW",
    "TENSOR",
];

/// Everything.
pub fn build(options: &FlightOptions) -> Result<SqlInfoData, FlightError> {
    let mut info = SqlInfoDataBuilder::new();
    server(&mut info, options);
    syntax(&mut info);
    names(&mut info);
    abilities(&mut info);
    limits(&mut info);
    info.build()
}

/// What the server is.
fn server(info: &mut SqlInfoDataBuilder, options: &FlightOptions) {
    info.append(SqlInfo::FlightSqlServerName, "Pyralog");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, false);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::Transaction as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, true);
    // Milliseconds; 0 is none.
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0_i32);
    let idle = i32::try_from(options.transaction_idle.as_millis()).unwrap_or(i32::MAX);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, idle);
}

/// How SQL is written.
fn syntax(info: &mut SqlInfoDataBuilder) {
    info.append(
        SqlInfo::SqlIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32,
    );
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32,
    );
    info.append(SqlInfo::SqlKeywords, &KEYWORDS as &[&str]);
    info.append(SqlInfo::SqlNumericFunctions, function_names(functions::math::functions()));
    let text = [
        functions::string::functions(),
        functions::unicode::functions(),
        functions::regex::functions(),
    ];
    info.append(SqlInfo::SqlStringFunctions, function_names(text.concat()));
    info.append(SqlInfo::SqlSystemFunctions, function_names(functions::core::functions()));
    info.append(SqlInfo::SqlDatetimeFunctions, function_names(functions::datetime::functions()));
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlNullPlusNullIsNull, true);
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    info.append(SqlInfo::SqlSupportsConvert, conversions());
}

/// Catalogs, schemas and tables.
fn names(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, true);
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlProcedureTerm, "procedure");
    info.append(SqlInfo::SqlCatalogTerm, "database");
    info.append(SqlInfo::SqlCatalogAtStart, true);
    info.append(SqlInfo::SqlSchemasSupportedActions, 0_i32);
    info.append(SqlInfo::SqlCatalogsSupportedActions, 0_i32);
    info.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    info.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
}

/// What statements can do.
fn abilities(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    info.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    info.append(
        SqlInfo::SqlSupportedGroupBy,
        bits([SqlSupportedGroupBy::SqlGroupByUnrelated as i32]),
    );
    info.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    info.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    let grammar = [
        SupportedSqlGrammar::SqlMinimumGrammar as i32,
        SupportedSqlGrammar::SqlCoreGrammar as i32,
    ];
    info.append(SqlInfo::SqlSupportedGrammar, bits(grammar));
    // The first bit is the entry level.
    info.append(SqlInfo::SqlAnsi92SupportedLevel, bits([0]));
    info.append(SqlInfo::SqlSupportsIntegrityEnhancementFacility, false);
    info.append(
        SqlInfo::SqlOuterJoinsSupportLevel,
        bits([SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32]),
    );
    info.append(SqlInfo::SqlSupportedPositionedCommands, 0_i32);
    info.append(SqlInfo::SqlSelectForUpdateSupported, false);
    info.append(SqlInfo::SqlStoredProceduresSupported, false);
    let subqueries = [
        SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
        SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
        SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
    ];
    info.append(SqlInfo::SqlSupportedSubqueries, bits(subqueries));
    info.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    info.append(
        SqlInfo::SqlSupportedUnions,
        bits([SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32]),
    );
    info.append(SqlInfo::SqlTransactionsSupported, true);
    let level = SqlTransactionIsolationLevel::SqlTransactionRepeatableRead as i32;
    info.append(SqlInfo::SqlDefaultTransactionIsolation, i64::from(level));
    info.append(
        SqlInfo::SqlSupportedTransactionsIsolationLevels,
        bits([level, SqlTransactionIsolationLevel::SqlTransactionSerializable as i32]),
    );
    info.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    info.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
    info.append(
        SqlInfo::SqlSupportedResultSetTypes,
        bits([SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32]),
    );
    let read_only = bits([SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32]);
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, read_only);
    info.append(SqlInfo::SqlBatchUpdatesSupported, true);
    info.append(SqlInfo::SqlSavepointsSupported, false);
    info.append(SqlInfo::SqlNamedParametersSupported, true);
    info.append(SqlInfo::SqlLocatorsUpdateCopy, false);
    info.append(SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false);
}

/// Limits; 0 is none or unknown.
fn limits(info: &mut SqlInfoDataBuilder) {
    for limit in [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxStatementLength,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTableNameLength,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ] {
        info.append(limit, 0_i64);
    }
    info.append(SqlInfo::SqlMaxRowSizeIncludesBlobs, true);
}

/// A bit mask with these bits set.
fn bits<const N: usize>(set: [i32; N]) -> i32 {
    set.iter().fold(0, |mask, bit| mask | 1 << bit)
}

/// Names of functions, sorted, with their aliases.
fn function_names(functions: Vec<std::sync::Arc<ScalarUDF>>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for function in &functions {
        names.push(function.name().to_string());
        names.extend(function.aliases().iter().cloned());
    }
    names.sort();
    names.dedup();
    names
}

/// What can be cast to what: numbers to numbers, everything to and from text, dates and times among themselves.
fn conversions() -> HashMap<i32, Vec<i32>> {
    use SqlSupportsConvert::*;
    let numbers = [
        SqlConvertBigint,
        SqlConvertDecimal,
        SqlConvertFloat,
        SqlConvertInteger,
        SqlConvertNumeric,
        SqlConvertReal,
        SqlConvertSmallint,
        SqlConvertTinyint,
        SqlConvertBit,
    ];
    let times = [SqlConvertDate, SqlConvertTime, SqlConvertTimestamp];
    let text = [SqlConvertChar, SqlConvertVarchar, SqlConvertLongvarchar];
    let binary = [SqlConvertBinary, SqlConvertVarbinary, SqlConvertLongvarbinary];
    let mut map = HashMap::new();
    for group in [&numbers[..], &times[..], &binary[..]] {
        for from in group {
            map.insert(*from as i32, group.iter().chain(&text).map(|to| *to as i32).collect());
        }
    }
    for from in text {
        let all = numbers.iter().chain(&times).chain(&text).chain(&binary);
        map.insert(from as i32, all.map(|to| *to as i32).collect());
    }
    map
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, UInt32Type};

    use super::*;

    #[test]
    fn an_empty_request_means_everything() {
        let info = build(&FlightOptions::default()).unwrap();
        let all = info.record_batch([]).unwrap();
        let ids = all.column(0).as_primitive::<UInt32Type>().values().to_vec();
        assert!(ids.is_sorted());
        for id in (0..=5)
            .chain(8..=11)
            .chain([100, 101])
            .chain(500..=567)
            .chain([569])
            .chain(572..=576)
        {
            assert!(ids.contains(&id), "SqlInfo {id}");
        }
    }

    #[test]
    fn transactions_are_an_integer_as_adbc_reads_it() {
        let info = build(&FlightOptions::default()).unwrap();
        let one = info.record_batch([SqlInfo::FlightSqlServerTransaction as u32]).unwrap();
        assert_eq!(one.num_rows(), 1);
        let value = one.column(1).as_union().value(0);
        assert_eq!(
            value.as_primitive::<Int32Type>().value(0),
            SqlSupportedTransaction::Transaction as i32
        );
    }

    #[test]
    fn functions_are_those_of_the_engine() {
        let names = function_names(functions::string::functions());
        assert!(names.contains(&"upper".to_string()) && names.is_sorted());
    }
}
