"""Deployment `databricks`: submission of steps to a cluster, and their environment there. No other deployment imports it."""
