"""`python -m emaps_dagster.check`: is everything there that this deployment needs? A sentence for what is not."""
