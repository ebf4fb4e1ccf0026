"""Symbols in files: memory-mapped rings, shared by processes, safe against crashes.

``directory`` is the store for a
:class:`~financial_data_service.engine.symbol_manager.SymbolManager`; ``symbol_files`` creates,
opens and removes its files. It completes or undoes such a step if a crash interrupted it.
``symbol_file`` maps one file and ``header`` reads and writes its header. ``durability`` syncs
prices to disk. ``recovery`` decides which contents are valid after a crash. ``reader`` reads from
any process. ``disk`` is the only module that asks the system for space and for syncs. It may import
``engine``, ``verify`` and what lies below; it does not depend on HTTP. Change the file format in
this package and in docs/reference/file-format.md.
"""
