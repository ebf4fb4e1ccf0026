"""Symbols in files: memory-mapped rings, shared by processes, safe against crashes.

``directory`` is the store for a
:class:`~financial_data_service.engine.symbol_manager.SymbolManager`; ``symbol_files`` creates,
opens and removes its files, and handles a crash in the middle of that. ``symbol_file`` is one file,
``header`` its header, ``durability`` how prices get to disk, ``recovery`` what is believed after a
crash, ``reader`` access from any process. ``disk`` is the only module that asks the system for
space and for syncs. It may import ``engine``, ``verify`` and what lies below; it knows no HTTP. A
change of what is on disk goes here, and into the reference of the file format.
"""
