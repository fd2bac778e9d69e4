"""`make demo` and `make dev`: the pipeline against the simulator, shown on the terminal and in Dagster's UI.

scenario.py runs it, expectations.py verifies it, plot.py draws, folder.py keeps the files, dev.py serves the UI.
Production needs none of it.
"""
