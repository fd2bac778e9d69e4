"""The use cases, without Dagster: ingest, silver, gold, checks, rebuild, withdrawal, maintenance, health."""
