"""Running the service: the socket, uvicorn, one process or several, a clean end.

``serve`` runs one process. ``supervisor`` runs several: a ``worker`` in each ``worker_slot``. Both
use ``startup``, ``listener`` and ``uvicorn_setup``. ``temporary_directory`` holds the prices that
workers share when there is no data directory. ``service_manager`` tells systemd that the service
serves, lives and ends. The package may import everything in ``server``. A change of start, stop or
supervision goes here.
"""
