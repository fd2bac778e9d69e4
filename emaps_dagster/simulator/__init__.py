"""An Electricity Maps API v3 server with a Greek-looking grid, for the demo and the tests.

grid.py computes the hours from profiles.py and noise.py, provider.py the records served at a moment,
perturbations.py the changes that tests plant; api.py is the contract, faults.py injects faults, server.py is HTTP.
"""
