"""Deployment `databricks`: submits steps to a cluster, and provides their session there. Imported by no other one."""
