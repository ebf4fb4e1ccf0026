"""Running the service: the socket, uvicorn, one process or several, an orderly end.

It may import everything in ``server``. A change of start, stop or supervision goes here.
"""
