"""Shared by tests and benchmarks: surroundings, histories of tables, PostgreSQL, an emulated Databricks workspace."""
