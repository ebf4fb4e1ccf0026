"""The bytes of a socket: HTTP and WebSocket protocols, the fast lane, accepting connections.

Everything that overrides uvicorn or websockets is here. It may import all other wings of ``server``
but ``processes``. A limit on connections goes here.
"""
