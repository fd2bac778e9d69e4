"""Decides what to run again and what to report: gaps, revisions, incidents, alerts, health. No Dagster."""
