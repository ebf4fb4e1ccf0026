"""The statistics engine: rolling statistics over a ring of prices and a tree of block summaries.

It knows nothing of files, HTTP or processes, and imports only ``errors``, ``prices`` and
``windows``. To add a statistic, change these modules in order. 1. ``summary``: add its algebra (the
reference in plain Python). 2. ``kernels``: add the compiled loop. 3. ``layout``: add its storage.
4. ``windows``: add a field to ``WindowStats``. Inside, imports point down: ``symbol_manager`` →
``store`` → ``running_stats`` → ``kernels`` → ``layout``.
"""
