"""The HTTP service around the engine: FastAPI on uvicorn.

``app`` puts the wings together; ``processes`` runs the result. From the bottom: ``formats`` (bytes
of prices and answers), ``telemetry`` (metrics and logs), ``middleware`` (around every route),
``api``, ``page`` and ``stream`` (the routes), ``connection`` (bytes of a socket, the fast lane).
"""
