"""The jobs: hourly, rebuild, withdraw, maintenance, backfill_cost, health_report."""
