"""Prices and answers as bytes: JSON, CSV, float64, Arrow, and which of them a client accepts.

Knows no HTTP and no symbols. It may import what lies below ``server``. A new format goes here.
"""
