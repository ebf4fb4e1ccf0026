"""Recompute what is stored and what is answered from the prices alone.

It may import ``engine`` and what lies below. A check of stored or served numbers goes here.
"""
