"""`python -m emaps_dagster.cli.preflight`: is everything there that this deployment needs? A sentence for what is not."""
