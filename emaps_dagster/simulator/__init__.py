"""An Electricity Maps API v3 server with a Greek-looking grid, for the demo and the tests.

grid.py makes the hours, provider.py what was known of them when, server.py answers over HTTP.
"""
