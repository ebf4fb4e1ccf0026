"""The HTTP routes.

They parse path, query and body, and return replies and errors. The package also documents them for
OpenAPI.

A new route goes into ``routes`` or ``bulk_routes``; a parameter of several routes into
``parameters``; a new field of a window into ``schemas`` and ``replies`` (and ``WindowStats``
below); the status code of a new error into ``error_replies``. It may import ``server.formats``,
``server.telemetry``, ``server.middleware`` and what lies below ``server``. The fast lane
(``server.connection``) answers plain requests before they reach these routes. It uses the same
``replies``.
"""
