"""`python -m emaps_dagster.cli.preflight`: checks that everything that a deployment needs is there."""
