"""The bytes of a socket: HTTP and WebSocket protocols, the fast lane, accepting connections.

``fast_lane`` receives the bytes. It answers the requests that ``head_cache`` knows, and passes all
others to ``http_protocol``. ``http_protocol`` is uvicorn's protocol with limits. ``arrival`` is its
state machine. ``upgrade`` handles requests for a protocol upgrade. ``websocket_protocol`` handles a
connection after the WebSocket handshake. ``acceptor`` shares connections out among workers. A limit
on connections goes into ``http_protocol``, a new state into ``arrival``.

Everything that overrides uvicorn or websockets is here, but for ``processes/uvicorn_setup`` and
``processes/worker``, which override uvicorn's server. ``internals`` lists the names that all of it
relies on, checks them at import, and says what to do when either library has a new release. This
package may import all other wings of ``server`` but ``processes``.
"""
