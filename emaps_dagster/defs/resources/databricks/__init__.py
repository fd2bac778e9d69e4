"""Deployment `databricks`: submission of steps to a cluster, and their session there. No other deployment imports it."""
