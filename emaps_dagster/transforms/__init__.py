"""Pure transforms, one module per layer: DataFrames in, DataFrame out; no I/O, no clock, no Dagster."""
