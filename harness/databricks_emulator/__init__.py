"""A Databricks workspace on this machine that really runs what is submitted.

By hand: `python -m harness.databricks_emulator`.
Where do I go to ... start one in a test: workspace.py.
See what a call answers: server.py (routes), storage.py (DBFS, volumes), jobs.py and runs.py. See where code runs:
cluster.py (processes, mount namespace), serverless.py (without a cluster), image.py (its Python), on_cluster/ (what
Databricks injects). Make something fail: faults.py. Nothing here imports the package or Dagster.
"""
