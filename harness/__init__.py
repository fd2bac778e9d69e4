"""What tests and benchmarks share: a builder of table histories, a PostgreSQL server, an emulated Databricks."""
