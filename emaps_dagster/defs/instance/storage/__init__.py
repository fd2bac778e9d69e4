"""Event log storages with persistent connections; the files and tables stay readable by Dagster's own storages."""
