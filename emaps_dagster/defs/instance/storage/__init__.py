"""Event log storages with connections that stay open; what is stored is the same as with Dagster's own."""
