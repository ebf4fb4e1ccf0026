"""The bytes of a socket: HTTP and WebSocket protocols, the fast lane, accepting connections.

Bytes arrive in ``fast_lane``, which answers what ``head_cache`` knows and hands over the rest to
``http_protocol``: uvicorn's protocol with limits. ``arrival`` is its state machine, ``upgrade`` its
way with upgrades, ``websocket_protocol`` what follows a handshake. ``acceptor`` shares connections
out among workers. A limit on connections goes into ``http_protocol``, a new state into ``arrival``.

Everything that overrides uvicorn or websockets is here, but for ``processes/uvicorn_setup`` and
``processes/worker``, which override uvicorn's server. ``internals`` lists the names that all of it
relies on, checks them at import, and says what to do when either library has a new release. This
package may import all other wings of ``server`` but ``processes``.
"""
