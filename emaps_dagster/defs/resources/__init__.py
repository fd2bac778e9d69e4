"""The resources of each deployment: Spark session, tables, API client, step launcher."""
