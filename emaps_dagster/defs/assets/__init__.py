"""The assets: one module for each layer, one for the health page, and their metadata."""
