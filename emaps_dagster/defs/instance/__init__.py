"""Access to the Dagster instance: runs, materializations, and storages of the event log."""
