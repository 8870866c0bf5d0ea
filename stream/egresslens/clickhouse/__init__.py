"""ClickHouse: the schema, what is written into it and what is read back."""
