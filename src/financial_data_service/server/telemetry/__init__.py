"""What the service tells its operator: counters, metrics, logs.

It may import ``engine``, ``storage`` and ``server.formats``. A new metric or log field goes here.
"""
