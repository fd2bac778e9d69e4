"""Deployment `databricks`: how a step is sent to a cluster, and what it finds there. No other deployment imports it."""
