"""Electricity Maps data as Delta tables and features: API -> bronze -> silver -> gold.

Where do I go to ...
  change what a table holds            tables.py, then transforms/<layer>.py
  see the graph, its checks            assets/, definitions.py
  change how Delta is read or written  lakehouse.py
  change the HTTP side                 client.py; simulator/ answers like the API
  run somewhere else                   settings.py, resources/
  change when things run               partitions.py, jobs.py, schedules.py
  change what is asked for again       upkeep/ decides, sensors.py asks; alerts.py tells people
  make silver and gold again           assets/rebuild.py
  take a response out of all reads     assets/withdraw.py
  add a zone                           zones.py
"""
