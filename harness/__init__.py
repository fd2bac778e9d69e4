"""Shared by tests and benchmarks: a builder of table histories, a PostgreSQL server, an emulated Databricks."""
