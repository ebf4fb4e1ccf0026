"""Symbols in files: memory-mapped rings, shared by processes, safe against crashes.

``directory`` is the store in which a
:class:`~financial_data_service.engine.symbol_manager.SymbolManager` keeps its symbols;
``file_stats`` is one symbol of it, ``symbol_file`` that symbol's file, ``header`` what the file
says of itself, ``durability`` how that comes to be on disk, ``recovery`` what is believed of it
after a crash. ``disk`` is the one place that asks the system for room and for things to be on disk.
"""
