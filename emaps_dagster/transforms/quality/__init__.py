"""What must be true of the tables, one module a layer; each check recomputes by another road than the code it judges.

Evidence (Arrow tables collected once a run and month) in, frozen outcomes out: no I/O, no clock, no Dagster.
Which checks a table has, what blocks and how it is reported is decided in assets/checks.py.
"""
