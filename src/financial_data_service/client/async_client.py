"""``AsyncClient``: a client with awaited calls and streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self, TypeVar, overload
from weakref import WeakSet

import httpx
import numpy.typing as npt

from financial_data_service.client import adding, asking, reading
from financial_data_service.client.connection import TIMEOUT_SECONDS, Connection, Timeout, Verify
from financial_data_service.client.exchange import ClientSession
from financial_data_service.client.price_array import Prices
from financial_data_service.client.results import (
    Check,
    Limits,
    Readiness,
    Receipt,
    Stats,
    Symbol,
    Table,
)
from financial_data_service.client.retries import DEFAULT, Retries
from financial_data_service.client.steps import Outcome, Pause, Plan, Request, ignore
from financial_data_service.client.stream_state import Reactions
from financial_data_service.wire import DEFAULT_URL

if TYPE_CHECKING:
    from financial_data_service.client.ingest import AsyncIngest
    from financial_data_service.client.subscription import AsyncSubscription

__all__ = ["AsyncClient"]

Result = TypeVar("Result")


class AsyncClient:
    """A client whose calls are awaited. The tasks of one event loop may share it.

    Parameters, calls and errors are those of
    :class:`~financial_data_service.client.sync_client.Client`.

    Examples
    --------
    >>> async with AsyncClient() as client:  # doctest: +SKIP
    ...     await client.add_batch("AAPL", [189.5, 189.7, 189.6])
    ...     async for update in client.subscribe("stats.AAPL.3"):
    ...         print(update.sequence, update.avg)
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: Timeout = TIMEOUT_SECONDS,
        retries: Retries | int = DEFAULT,
        verify: Verify = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._connection = Connection(url, api_key, timeout, verify)
        self._session = ClientSession(self._connection.url, Retries.of(retries))
        self._http = httpx.AsyncClient(transport=transport, **self._connection.http_options())
        self._subscriptions: WeakSet[AsyncSubscription] = WeakSet()

    @property
    def url(self) -> str:
        """URL of the service."""
        return self._connection.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections, and end the loops of all subscriptions. Idempotent."""
        await asyncio.gather(*(each.aclose() for each in self._subscriptions))
        await self._http.aclose()

    async def add_batch(
        self,
        symbol: str,
        values: npt.ArrayLike,
        from_sequence: int | None = None,
        *,
        exclusive: bool = True,
    ) -> Receipt:
        """Append prices to a symbol, oldest first. See :meth:`Client.add_batch`."""
        plan = adding.add_batch(self._session, symbol, values, from_sequence, exclusive)
        return await self._run(plan)

    @overload
    async def stats(self, symbol: str, k: int) -> Stats: ...
    @overload
    async def stats(self, symbol: str, *, last: int) -> Stats: ...
    async def stats(self, symbol: str, k: int | None = None, *, last: int | None = None) -> Stats:
        """Return the statistics of one window. See :meth:`Client.stats`."""
        return await self._run(asking.stats(self._session, symbol, k, last))

    async def all_stats(self, symbol: str | None = None, *, k: int | None = None) -> Table[Stats]:
        """Return the statistics of every window. See :meth:`Client.all_stats`."""
        return await self._run(asking.all_stats(self._session, symbol, k))

    async def symbols(self) -> Table[Symbol]:
        """Return all symbols, with the number of stored prices of each."""
        return await self._run(asking.symbols(self._session))

    async def limits(self) -> Limits:
        """Return the limits of the service."""
        return await self._run(asking.get_limits(self._session))

    async def values(self, symbol: str, last: int | None = None) -> Prices:
        """Return the last prices of a symbol. See :meth:`Client.values`."""
        return await self._run(reading.values(self._session, symbol, last))

    async def verify(self, symbol: str, k: int) -> Check:
        """Ask the service to recompute one window and compare the result with the served one.

        See :meth:`Client.verify`.
        """
        return await self._run(asking.verify(self._session, symbol, k))

    async def delete(self, symbol: str) -> None:
        """Delete a symbol and all its prices. See :meth:`Client.delete`."""
        return await self._run(asking.delete(self._session, symbol))

    async def alive(self) -> bool:
        """Return whether the service answers at all. One request, no retries."""
        return await self._run(asking.alive(self._session))

    async def ready(self) -> Readiness:
        """Return whether the service is ready, and the files that it cannot serve.

        One request, no retries.
        """
        return await self._run(asking.ready(self._session))

    async def wait_until_ready(self, seconds: float = 30.0) -> Readiness:
        """Wait for a service that is starting. See :meth:`Client.wait_until_ready`."""
        return await self._run(asking.wait_until_ready(self._session, seconds))

    def subscribe(
        self,
        *streams: str | Iterable[str],
        on_open: Callable[[], object] = ignore,
        on_lost: Callable[[str], object] = ignore,
        on_restored: Callable[[], object] = ignore,
        on_deleted: Callable[[str], object] = ignore,
    ) -> AsyncSubscription:
        """Return statistics as they change, for ``async for``.

        The first update of a window is its current state. Each later update is a change; there is
        at most one per interval. If the connection is lost, the client reconnects, without a limit
        on attempts. A window that changed in the meantime produces one update. A window that did
        not change produces none. The sequence of a window increases with every update, until its
        symbol is deleted. Leaving the loop closes the connection. A loop in another task ends when
        the ``async with`` block is left, or when the subscription or the client is closed.

        Parameters
        ----------
        *streams : str or iterable of str
            ``stats.<symbol>.<k>``, with ``*`` for all symbols and an optional interval:
            ``stats.AAPL.3@0ms``. :func:`~financial_data_service.client.stream_state.stream_name`
            encodes symbols that contain a ``.``.
        on_open : callable, optional
            Called when the service has answered on a new connection, before its first update.
        on_lost : callable, optional
            Called with the reason when the connection is lost or cannot be made.
        on_restored : callable, optional
            Called when the connection is restored.
        on_deleted : callable, optional
            Called with a symbol when it is deleted, or has started again from its first price. The
            service does not report symbols that were deleted while the connection was lost. For
            those this is called when there are prices of that name again, fewer than before. In
            `on_restored`, ask for :meth:`symbols` to notice them.

        Raises
        ------
        TypeError, ValueError
            When no stream is named, a name is invalid, or the client is closed.
        ServiceError
            Raised by the loop if the service refuses a stream or the key.

        Examples
        --------
        >>> async with client.subscribe("stats.*.3", "stats.AAPL.8@0ms") as updates:
        ...     async for update in updates:  # doctest: +SKIP
        ...         print(update.symbol, update.k, update.avg)
        """
        from financial_data_service.client.subscription import AsyncSubscription

        self._must_be_open()
        reactions = Reactions(on_open, on_lost, on_restored, on_deleted)
        retries = self._session.retries
        subscription = AsyncSubscription(self._connection, streams, reactions, retries)
        self._subscriptions.add(subscription)
        return subscription

    def ingest(self, symbol: str, from_sequence: int | None = None) -> AsyncIngest:
        """Return a stream for adding prices. It sends batches without waiting for the replies.

        If the connection breaks, batches without a reply are sent again. Each batch is stored only
        once. No other program may add to the symbol meanwhile. At the end of the block the client
        waits for all replies, unless the block ends with an exception. The client's `retries` limit
        how long it tries to reconnect.

        Parameters
        ----------
        symbol : str
            1 to 128 characters, none of them a control character.
        from_sequence : int, optional
            Number of prices appended to the symbol before these. The client asks the service if it
            is not given.

        Examples
        --------
        >>> async with client.ingest("AAPL") as ingest:  # doctest: +SKIP
        ...     async for trades in feed:
        ...         await ingest.send([trade.price for trade in trades])
        >>> ingest.receipt  # doctest: +SKIP
        Receipt(symbol='AAPL', added=120000, sequence=120000)
        """
        from financial_data_service.client.ingest import AsyncIngest, Frames

        async def begin() -> tuple[Frames, int]:
            plan = adding.begin_ingest(self._session, symbol, from_sequence)
            start, batch_max = await self._run(plan)
            url = f"{self.url}/ingest/{symbol}"
            return Frames(symbol, start, from_sequence is None, url), batch_max

        return AsyncIngest(self._connection, self._session.retries, begin)

    def _must_be_open(self) -> None:
        if self._http.is_closed:
            raise ValueError(f"{self!r} is closed: it cannot send requests")

    async def _run(self, plan: Plan[Result]) -> Result:
        outcome: Outcome = None
        while True:
            try:
                step = plan.send(outcome)
            except StopIteration as end:
                result: Result = end.value
                return result
            outcome = await self._do(step)

    async def _do(self, step: Request | Pause) -> Outcome:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        self._must_be_open()
        try:
            response = await self._http.request(**self._connection.request_options(step))
        except httpx.HTTPError as error:
            return self._connection.lost(error)
        return self._connection.reply(response)
