"""An Electricity Maps API v3 server with a Greek-looking grid, for the demo and the tests.

grid.py makes the hours from profiles.py and noise.py, provider.py what was known of them when,
perturbations.py what tests plant there; api.py is the contract, faults.py what goes wrong, server.py HTTP.
"""
