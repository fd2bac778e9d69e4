"""Delta tables by contract, as local folders or in a catalog: create, read, append, merge, rebuild, maintain."""
