"""The statistics engine: rolling statistics over a ring of prices and a tree of block summaries.

It knows nothing of files, HTTP or processes, and imports only ``errors``, ``prices`` and
``windows``. A new statistic of a window goes here, in this order: its algebra into ``summary`` (the
reference in plain Python), the hot loop into ``kernels``, its bytes into ``layout``, its field into
``WindowStats`` (module ``windows``). Inside, imports point down: ``symbol_manager`` → ``store`` →
``running_stats`` → ``kernels`` → ``layout``.
"""
