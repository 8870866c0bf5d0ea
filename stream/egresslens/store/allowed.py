"""What SQL may use in the store: allow-lists. `guard` applies them.

Each name was looked at in chdb 4.4.0 (engine 26.9): it reads and writes nothing but its arguments and our
tables. Whatever a later engine adds is refused until it is listed here.
"""

from __future__ import annotations

import re
from typing import Final


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Not here, though they reach nothing by themselves: format, generateRandom, null. They take a list of columns
# as text, whose DEFAULT and ALIAS expressions run (measured: `file` did). So does `values`, which is checked.
TABLE_FUNCTIONS: Final = _names(
    "numbers numbers_mt zeros zeros_mt values view generateseries generate_series primes mergetreeindex "
    "mergetreeprojection"
)

# Replicated engines are not here: they need a Keeper, over the network.
TABLE_ENGINES: Final = _names(
    """
    MergeTree ReplacingMergeTree SummingMergeTree AggregatingMergeTree CollapsingMergeTree CoalescingMergeTree
    VersionedCollapsingMergeTree Memory Null Log TinyLog StripeLog
    """
)
DATABASE_ENGINES: Final = _names("Atomic Memory")

# Categories of `system.functions` whose members compute from their arguments alone. Not among them: AI
# (network), Introspection, Dictionary, Embedded Dictionary, Machine Learning (models), Internal, and Other.
FUNCTION_CATEGORIES: Final = (
    *("Aggregate Functions", "Arithmetic", "Arrays", "Bit", "Bitmap", "Comparison", "Conditional"),
    *("Dates and Times", "Distance", "Encoding", "Encryption", "Financial", "Geo", "Geo Polygon", "Hash"),
    *("IP Address", "JSON", "Logical", "Map", "Mathematical", "Null", "NumericIndexedVector", "QBit"),
    *("Random Number", "Rounding", "String", "String Replacement", "String Search", "String Splitting"),
    *("Time Series", "Time Window", "Tuple", "Type Conversion", "URL", "UUID"),
)

# Members of those categories that open files by a name in their arguments.
NOT_FUNCTIONS: Final = _names("convertCharset")

# Category Other holds `file`, `getMacro`, `getServerSetting`, `joinGet`, `sleep` as well: one by one.
OTHER_FUNCTIONS: Final = _names(
    """
    bar blockNumber blockSerializedSize blockSize byteSize countDigits currentDatabase currentQueryID
    currentSchemas currentUser defaultValueOfArgumentType defaultValueOfTypeName digits displayName
    dumpColumnStructure errorCodeToName finalizeAggregation formatQuery formatQueryOrNull
    formatQuerySingleLine formatQuerySingleLineOrNull formatReadableDecimalSize formatReadableQuantity
    formatReadableSize
    formatReadableTimeDelta generateRandomStructure getMaxTableNameLengthForDatabase getSetting
    getSettingOrDefault getSizeOfEnumType getSubcolumn getTypeSerializationStreams hostName identity ignore
    indexHint initialQueryID initializeAggregation isConstant isDecimalOverflow lowCardinalityIndices
    lowCardinalityKeys MACNumToString MACStringToNum MACStringToOUI materialize minSampleSizeContinuous
    minSampleSizeConversion neighbor normalizedQueryHash normalizedQueryHashKeepNames normalizeQuery
    normalizeQueryKeepNames parseReadableSize parseReadableSizeOrNull parseReadableSizeOrZero parseTimeDelta
    partitionId queryID revision rowNumberInAllBlocks rowNumberInBlock runningAccumulate runningDifference
    runningDifferenceStartingWithFirstValue throwIf toColumnTypeName toTypeName tokenizeQuery transform uptime
    variantElement variantType version visibleWidth
    """
)

# What the parser writes for syntax; `system.functions` does not list these.
SYNTAX_FUNCTIONS: Final = _names("lambda untuple grouping exists _cast nested")

SYSTEM_DATABASES: Final = _names("system information_schema default")

# Tables of `system` that say something of our tables, of the engine, or of the caller's own settings.
READER_SYSTEM_TABLES: Final = _names(
    """
    one numbers numbers_mt zeros zeros_mt primes settings merge_tree_settings tables columns databases parts
    parts_columns projection_parts projection_parts_columns projections data_skipping_indices
    data_skipping_index_types functions formats table_engines table_functions data_type_families
    aggregate_function_combinators collations codecs keywords completions time_zones build_options
    contributors licenses merges mutations metrics events asynchronous_metrics detached_parts documentation
    unicode
    tokenizers constraints
    """
)
# Those that show other people's statements, or the machine.
WRITER_SYSTEM_TABLES: Final = READER_SYSTEM_TABLES | _names(
    """
    processes errors warnings server_settings query_log query_views_log part_log query_cache disks
    storage_policies user_processes dropped_tables detached_tables view_refreshes dimensional_metrics
    histogram_metrics settings_changes
    """
)

# Settings whose value is free text are refused: paths, addresses and SQL hide in such. These hold none.
TEXT_TYPES: Final = _names("String Map URI Array")
TEXT_SETTINGS: Final = _names(
    """
    log_comment insert_deduplication_token count_distinct_implementation force_data_skipping_indices
    ignore_data_skipping_indices force_optimize_projection_name preferred_optimize_projection_name
    query_cache_tag compatibility bool_true_representation bool_false_representation
    format_csv_null_representation format_tsv_null_representation format_custom_field_delimiter
    format_custom_row_before_delimiter format_custom_row_after_delimiter format_custom_row_between_delimiter
    format_custom_result_before_delimiter format_custom_result_after_delimiter format_regexp
    output_format_sql_insert_table_name output_format_pretty_grid_charset
    format_json_object_each_row_column_for_object_name output_format_avro_codec
    """
)
TABLE_TEXT_SETTINGS: Final = _names(
    """
    default_compression_codec marks_compression_codec primary_key_compression_codec auto_statistics_types
    exclude_materialize_skip_indexes_on_merge
    """
)
# Settings of other types that would change what the guard sees, loosen what an account may do, or trouble the
# process (profilers send it signals).
LOOSENING_SETTINGS: Final = re.compile(
    "readonly|allow_ddl|dialect|.*_dialect|implicit_select|implicit_transaction|max_parser_.*|"
    "default_(temporary_)?table_engine|default_database_engine|.*introspection.*|.*python.*|.*eval_table_function.*|"
    "(.*_)?ai_.*|table_disk|dynamic_disk_.*|into_outfile_.*|http_allow_.*|webassembly_.*|.*profiler.*|jemalloc_.*|"
    "trace_profile_.*|send_logs_.*|max_result_bytes|s3.*|azure.*|hdfs.*|url_.*|engine_file_.*|engine_url_.*"
)

READS: Final = _names(
    """
    SelectWithUnionQuery SelectIntersectExceptQuery SelectQuery ExplainQuery ShowTablesQuery ShowColumnsQuery
    ShowIndexesQuery CheckTableQuery
    """
)
WRITES: Final = _names(
    "CreateQuery AlterQuery DropQuery RenameQuery OptimizeQuery DeleteQuery UpdateQuery InsertQuery"
)
EXPLAINS: Final = frozenset(
    {"EXPLAIN", "EXPLAIN AST", "EXPLAIN SYNTAX", "EXPLAIN QUERY TREE", "EXPLAIN PIPELINE", "EXPLAIN ESTIMATE"}
)
EXPLAIN_OPTIONS: Final = _names(
    """
    actions compact description dump_ast dump_passes dump_tree graph header indexes json keep_logical_steps
    oneline optimize passes pretty projections query_tree_passes run_passes run_query_tree_passes sorting
    """
)
ALTER_COMMANDS: Final = _names(
    """
    ADD_COLUMN DROP_COLUMN MODIFY_COLUMN COMMENT_COLUMN RENAME_COLUMN MATERIALIZE_COLUMN MODIFY_ORDER_BY
    MODIFY_SAMPLE_BY REMOVE_SAMPLE_BY MODIFY_TTL REMOVE_TTL MATERIALIZE_TTL MODIFY_SETTING RESET_SETTING
    MODIFY_QUERY MODIFY_REFRESH ADD_INDEX DROP_INDEX MATERIALIZE_INDEX ADD_PROJECTION DROP_PROJECTION
    MATERIALIZE_PROJECTION ADD_CONSTRAINT DROP_CONSTRAINT ADD_STATISTICS DROP_STATISTICS MODIFY_STATISTICS
    MATERIALIZE_STATISTICS DROP_PARTITION DROP_DETACHED_PARTITION ATTACH_PARTITION MOVE_PARTITION
    REPLACE_PARTITION DELETE UPDATE APPLY_DELETED_MASK MODIFY_COMMENT
    """
)
# Statements the engine has no JSON for, by their canonical first words. They hold names, no expressions.
NAMED_READS: Final = re.compile(
    r"(SHOW CREATE (TABLE|VIEW|DATABASE)|EXISTS (TABLE|VIEW|DATABASE)|SHOW FUNCTIONS|SHOW ENGINES)\b"
)
