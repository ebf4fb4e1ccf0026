"""What ``benchmarks/engine.py`` measures, a subject to a module."""
