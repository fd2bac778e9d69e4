"""On which machine and against which server: adapters that hand out plain objects."""
