"""What a person would otherwise have to think of: which hours to ask for again, and when to tell somebody.

Pure decisions on values: no clock, no storage, no Dagster. sensors.py and schedules.py ask and act.
"""
