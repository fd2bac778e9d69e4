"""`python -m emaps_dagster.cli.preflight`: checks the requirements of a deployment before it starts."""
