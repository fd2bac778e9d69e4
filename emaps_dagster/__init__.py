"""Electricity Maps data as Delta tables and features: API -> bronze -> silver -> gold.

Rooms, from the bottom to the top; each imports only from those above it in this list:
  contracts/         zones, hours, tables, settings, errors: what is promised, without I/O
  transforms/        pure PySpark; what a table holds
  simulator/         an API server with a Greek-looking grid
  electricity_maps/  requests, retries, typed errors, admission of records
  lakehouse/         Delta tables by contract: read, append, merge, rebuild
  monitoring/        what is run again (gaps, revisions), what is reported (incidents, alerts, health)
  features/          `features.load` and its siblings
  forecasting/       training sets by issue time, and the rows to serve
  pipeline/          the use cases without Dagster: ingest, silver, gold, checks, rebuild, withdraw, maintenance
  defs/              everything that imports Dagster: assets, checks, jobs, schedules, sensors, resources
  definitions.py     what Dagster loads
  cli/               commands, among them a demo of two weeks of data

To add a column: contracts/tables.py, then transforms/silver.py or transforms/gold.py.
To add a check: transforms/quality/, then pipeline/check_catalog.py. To add a zone: contracts/zones.py.
More: docs/architecture.md.
"""
