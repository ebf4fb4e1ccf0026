"""The bytes of a socket: HTTP and WebSocket protocols, the fast lane, accepting connections.

Everything that overrides uvicorn or websockets is here; ``internals`` lists which of their names it
relies on, and says what to check when either has a new release. It may import all other wings of
``server`` but ``processes``. A limit on connections goes here.
"""
