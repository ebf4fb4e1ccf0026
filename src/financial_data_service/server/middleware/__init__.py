"""What stands around every route: observation, API key, limits, headers of every reply.

It may import ``server.telemetry`` and ``server.formats``. A header on every reply goes here.
"""
