"""`make demo` and `make dev`: the pipeline against the simulator, shown on the screen and in Dagster's UI.

story.py runs and judges, picture.py draws, folder.py keeps, dev.py serves. Nothing here is needed in production.
"""
