"""Encoding and decoding of prices and replies as JSON, CSV, float64 and Arrow.

It also selects the format that a client accepts.

A new bulk format goes here: reading a batch into a module like ``float64_batch``, writing prices
into ``price_formats``; ``api/bulk_body`` and ``api/bulk_routes`` then offer it. This package knows
no HTTP and no store of symbols. It may import what lies below ``server``.
"""
