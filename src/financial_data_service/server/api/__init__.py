"""The HTTP routes: path, query and body in, replies and errors out, the OpenAPI document.

A new route goes into ``routes`` or ``bulk_routes``; a new field of a window into ``schemas`` and
``replies`` (and ``WindowStats`` below); the status code of a new error into ``error_replies``. It
may import ``server.formats``, ``server.telemetry``, ``server.middleware`` and what lies below
``server``. Plain requests never get here: the fast lane (``server.connection``) answers them with
the same ``replies``.
"""
