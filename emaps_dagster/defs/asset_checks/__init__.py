"""The checks of `pipeline` as Dagster asset checks, with one evaluation for each hour."""
