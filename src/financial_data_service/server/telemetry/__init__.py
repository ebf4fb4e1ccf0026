"""What the service reports to its operator: counters, metrics, logs.

``counters`` is the shared memory of all workers, ``counter_row`` the layout of one row, ``metrics``
counts, ``resident`` asks the system what is in memory, ``exposition`` writes the text for
Prometheus, ``logs`` configures the log. It may import
``engine``, ``storage`` and ``server.formats``. A new metric or log field goes here.
"""
