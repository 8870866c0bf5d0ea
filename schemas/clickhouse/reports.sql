-- The reports as views (after judged.sql): the same texts that `egresslens report` runs. Most answer per hour: sum
-- over `window_start` for longer, or ask the command, which chooses the tier and gives exact percentiles.
-- report_coverage is about the last 24 hours, report_new about everything ever seen.

CREATE OR REPLACE VIEW ${database}.report_external${on_cluster} AS ${report_external};

CREATE OR REPLACE VIEW ${database}.report_databases${on_cluster} AS ${report_databases};

CREATE OR REPLACE VIEW ${database}.report_regions${on_cluster} AS ${report_regions};

CREATE OR REPLACE VIEW ${database}.report_blocked${on_cluster} AS ${report_blocked};

CREATE OR REPLACE VIEW ${database}.report_new${on_cluster} AS ${report_new};

CREATE OR REPLACE VIEW ${database}.report_modes${on_cluster} AS ${report_modes};

CREATE OR REPLACE VIEW ${database}.report_coverage${on_cluster} AS ${report_coverage};
