"""The HTTP routes: path, query and body in, replies and errors out, the OpenAPI document.

It may import ``server.formats``, ``server.telemetry``, ``server.middleware`` and what lies below
``server``. A new route or a new field of a reply goes here.
"""
