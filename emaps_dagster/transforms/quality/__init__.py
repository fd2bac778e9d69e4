"""Data-quality checks; each recomputes the checked values with another algorithm than the transform it checks.

Evidence (Arrow tables collected once per run and month) in, frozen outcomes out: no I/O, no clock, no Dagster.
pipeline/check_catalog.py assigns checks to tables and selects the blocking ones; defs/asset_checks/ reports them.
"""
