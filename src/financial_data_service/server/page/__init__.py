"""The live page at ``/``: its routes and its static files.

A change of what the page shows goes here.
"""
