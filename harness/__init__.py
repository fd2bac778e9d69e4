"""Shared by tests and benchmarks: histories of tables, a PostgreSQL server, an emulated Databricks workspace."""
