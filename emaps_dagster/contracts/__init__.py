"""Contracts of the pipeline: zones, hours, tables, settings, errors. No I/O; every other room imports from here."""
