"""The middleware: observation, API key check, limits, and headers for every reply.

``stack`` adds it, ``observation`` explains the order. It may import ``server.telemetry``,
``server.formats`` and what lies below ``server``. Add a header for every reply, or a check before
every route, in this package. Add it to the fast lane (``server.connection``) too.
"""
