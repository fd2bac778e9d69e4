"""What the Dagster instance stores: runs, materializations, and the event log's storage."""
