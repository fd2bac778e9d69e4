"""Pure transforms, one module a layer: DataFrames in, DataFrame out; no I/O, no clock, no Dagster."""
