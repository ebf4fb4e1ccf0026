"""The HTTP service around the engine: FastAPI on uvicorn.

``app`` puts the wings together; ``processes`` runs the result. The layers, lowest first:
``formats`` (encoding of prices and replies), ``telemetry`` (metrics and logs), ``middleware``,
``api``, ``page`` and ``stream`` (the routes), ``connection`` (HTTP and WebSocket protocols, the
fast lane).
"""
