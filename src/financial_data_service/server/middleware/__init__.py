"""What runs around every route: observation, API key, limits, headers of every reply.

``stack`` adds it, ``observation`` explains the order. It may import ``server.telemetry``,
``server.formats`` and what lies below ``server``. A header on every reply, or a check before every
route, goes here; the fast lane (``server.connection``) has to do the same.
"""
