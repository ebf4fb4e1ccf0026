"""The application: routes, error replies, documentation pages, start and end."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.routing import WebSocketRoute

from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.running_stats import warm_up
from financial_data_service.engine.store import SymbolStore
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.server import stream
from financial_data_service.server.api import bulk_routes
from financial_data_service.server.api import routes as api_routes
from financial_data_service.server.api.error_replies import add_error_handlers
from financial_data_service.server.middleware.content_security import ContentSecurityMiddleware
from financial_data_service.server.middleware.encoded_slash import EncodedSlashMiddleware
from financial_data_service.server.middleware.head import HeadMiddleware
from financial_data_service.server.middleware.observation import ObservationMiddleware
from financial_data_service.server.middleware.proxy_prefix import ProxyPrefixMiddleware
from financial_data_service.server.middleware.stack import add_access_control
from financial_data_service.server.page import routes as page_routes
from financial_data_service.server.stream.hub import Hub
from financial_data_service.server.telemetry import metrics as metrics_route
from financial_data_service.server.telemetry.counter_row import SAMPLED_ONE_IN
from financial_data_service.server.telemetry.counters import Counters
from financial_data_service.server.telemetry.logs import AccessLog
from financial_data_service.server.telemetry.metrics import Metrics
from financial_data_service.settings import Settings
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.version import __version__

__all__ = ["Service", "create_app", "store_for"]

logger = logging.getLogger("financial_data_service.server")

_DESCRIPTION = """\
Exact rolling **min, max, last, avg, var** over the last 10 to {largest_window:,} trading prices of
each symbol, in constant time.

All windows end at the newest price. For prices of one sign `avg` is within one unit in the last
place. `var` (the population variance) is within a relative 1e-14. Both depend only on the prices in
the window. `sequence` is the number of prices ever appended to the symbol, up to the newest one in
the window.

A request that does not arrive within {request_seconds:g} seconds is answered with 408, a head of
more than 64 KiB with 431, a request that is not HTTP with 400; the connection is closed after each.
If {in_flight_max:,} requests are in progress, the next one is answered with 429 and `Retry-After`.
Unknown or repeated query parameters are a 422.
"""

_TAGS = [
    {"name": "prices", "description": "Add and read prices."},
    {"name": "statistics", "description": "Statistics of windows."},
    {
        "name": "streams",
        "description": "Updates as prices arrive. WebSockets: see `/asyncapi.yaml`.",
    },
    {"name": "symbols", "description": "List and delete symbols."},
    {"name": "health", "description": "For load balancers and supervisors."},
]


@dataclass(slots=True)
class Service:
    """The state of one process: settings, symbols, subscriptions and metrics.

    The application carries it as ``app.state.service``.

    Attributes
    ----------
    settings : Settings
        Of the service.
    manager : SymbolManager
        The symbols and their prices.
    hub : Hub
        The subscriptions of streams.
    metrics : Metrics
        The counters of this process.
    is_open : bool
        Whether the store is open: true from :meth:`open` to :meth:`close`.
    """

    settings: Settings
    manager: SymbolManager
    hub: Hub
    metrics: Metrics
    is_open: bool = False

    def open(self, *, quiet: bool = False) -> None:
        """Open the prices, and log which of their files are rejected. Idempotent.

        Parameters
        ----------
        quiet : bool
            Log nothing, because another process has logged the rejected files.

        Raises
        ------
        DataDirectoryError
            When the data directory cannot be used.
        """
        if self.is_open:
            return
        self.manager.open()
        self.is_open = True
        if not quiet:
            for file, reason in self.manager.refused.items():
                logger.warning("%s is not served: %s", file, reason)

    def close(self) -> None:
        """Close the prices. Idempotent."""
        self.manager.close()
        self.is_open = False


def create_app(
    settings: Settings | None = None,
    *,
    store: SymbolStore | None = None,
    counters: Counters | None = None,
    worker: int = 0,
) -> FastAPI:
    """Return the ASGI application with its own symbols.

    Parameters
    ----------
    settings : Settings, optional
        From the environment (``FDS_*``) if not given.
    store : SymbolStore, optional
        Where the symbols are kept. The settings decide if it is not given. It is opened when the
        application starts, unless it is open already, and closed when it ends.
    counters : Counters, optional
        The counters of all workers, if there are several.
    worker : int
        Number of this process among the workers, from 0.
    """
    settings = settings or Settings()
    store = store or store_for(settings)
    limits = settings.max_symbols, settings.largest_window, settings.batch_max
    manager = SymbolManager(*limits, store=store)
    hub = Hub(manager, settings.stream_connections_max)

    app = _documented_app(settings)
    add_error_handlers(app)
    routers = [
        api_routes.router_for(settings, manager),
        bulk_routes.router_for(settings, manager),
        stream.router_for(settings, manager, hub),
        api_routes.health_router_for(manager),
        page_routes.router_for(),
    ]
    routes = [*_routes((app.router, *routers)), ("GET", metrics_route.PATH)]
    # With an access log every request is measured, because each line contains its time.
    every = 1 if settings.access_log else SAMPLED_ONE_IN
    metrics = Metrics(manager, routes, counters, worker, streams=hub, every=every)
    for router in (*routers, metrics_route.router_for(metrics)):
        app.include_router(router)
    _add_middleware(app, settings, metrics)
    app.state.service = Service(settings, manager, hub, metrics)
    return app


def _documented_app(settings: Settings) -> FastAPI:
    """Return an application without routes but with its title, description and documentation."""
    return FastAPIOffline(
        title="financial-data-service",
        description=_DESCRIPTION.format(
            largest_window=settings.largest_window,
            request_seconds=settings.request_seconds,
            in_flight_max=settings.in_flight_max,
        ),
        version=__version__,
        openapi_tags=_TAGS,
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=_lifespan,
        static_url="/docs-assets",
        # Clients generated from the document call their functions by these names.
        generate_unique_id_function=lambda route: route.name,
    )


def _add_middleware(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """Add the middleware. What is added last is outermost; ``observation`` explains the order."""
    app.add_middleware(HeadMiddleware)
    app.add_middleware(EncodedSlashMiddleware)
    app.add_middleware(ContentSecurityMiddleware)
    add_access_control(app, settings, metrics)
    access_log = AccessLog() if settings.access_log else None
    app.add_middleware(ObservationMiddleware, metrics=metrics, access_log=access_log)
    if settings.root_path:
        app.add_middleware(ProxyPrefixMiddleware, root_path=settings.root_path)


def _routes(routers: Iterable[APIRouter]) -> Iterator[tuple[str, str]]:
    """Return method and path of every route."""
    for router in routers:
        for route in router.routes:
            path = getattr(route, "path", None)
            if path is not None:
                # A mount accepts any method. A WebSocket route has no method.
                kind = "WEBSOCKET" if isinstance(route, WebSocketRoute) else "GET"
                for method in getattr(route, "methods", None) or (kind,):
                    yield method, path


def store_for(settings: Settings, *, temporary: bool = False) -> SymbolStore | None:
    """Return the store that the settings select.

    None means that symbols are kept in memory. No file is accessed.

    Parameters
    ----------
    settings : Settings
        Of the service.
    temporary : bool
        Whether the data directory is to be removed by the last process that has it open.
    """
    if settings.data_dir is None:
        return None
    return DirectoryStore(
        settings.data_dir,
        Geometry(settings.largest_window, batch_max=settings.batch_max),
        settings.max_symbols,
        settings.durability,
        temporary=temporary,
        # Name the parent as the process to stop, because a stopped worker is replaced.
        holder_pid=os.getppid() if settings.workers > 1 else None,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Compile the kernels and open the prices before the first request; close them at the end."""
    service: Service = app.state.service
    warm_up()
    service.open()
    service.metrics.start()
    yield
    service.metrics.stop()
    service.hub.stop()
    service.close()
