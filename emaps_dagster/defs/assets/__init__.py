"""Where each table stands in the graph: thin assets and checks, one module a layer."""
