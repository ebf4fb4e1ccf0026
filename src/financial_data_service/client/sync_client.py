"""``Client``: a client with blocking calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, overload
from weakref import WeakSet

import httpx
import numpy.typing as npt

from financial_data_service.client import adding, asking, reading
from financial_data_service.client.blocking import PlanRunner
from financial_data_service.client.connection import TIMEOUT_SECONDS, Timeout, Verify
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
from financial_data_service.client.steps import ignore
from financial_data_service.client.stream_state import Reactions
from financial_data_service.wire import DEFAULT_URL

if TYPE_CHECKING:
    from financial_data_service.client.subscription import Subscription

__all__ = ["Client"]


class Client(PlanRunner):
    """A client whose calls block. Threads may share it; processes may not.

    A request that only reads is retried for some time if the service is unavailable or busy. A
    request that changes something is retried only if the change cannot be made twice (see
    :class:`~financial_data_service.client.retries.Retries`).

    Parameters
    ----------
    url : str
        URL of the service. A path in it is the prefix of a proxy. If it contains a user name and a
        password, they are sent as HTTP basic authentication.
    api_key : str, optional
        Sent as ``X-API-Key``: 16 to 256 printable ASCII characters.
    timeout : float or httpx.Timeout
        Seconds that the service may be silent.
    retries : Retries or int
        The retry schedule, or the maximum number of retries.
    verify : ssl.SSLContext or bool
        Trusted certificates. Those of the system by default; ``SSL_CERT_FILE`` and
        ``SSL_CERT_DIR`` replace them.
    transport : httpx.BaseTransport, optional
        The httpx transport, for instance for a proxy or a Unix socket. By default the client uses
        the proxies of the environment, except for services on this machine.

    Raises
    ------
    ValueError
        When an argument is invalid. The message does not contain the API key. Also raised by every
        call of a closed client.
    ServiceError
        From every call, of the subclass that fits: ``SymbolNotFoundError``,
        ``ServiceUnavailableError``, … ``status`` and ``detail`` are those of the service.

    Examples
    --------
    >>> with Client() as client:  # doctest: +SKIP
    ...     print(client.add_batch("AAPL", [189.5, 189.7, 189.6]))
    ...     print(client.stats("AAPL", last=2).max)
    Receipt(symbol='AAPL', added=3, sequence=3)
    189.7
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: Timeout = TIMEOUT_SECONDS,
        retries: Retries | int = DEFAULT,
        verify: Verify = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(
            url,
            api_key=api_key,
            timeout=timeout,
            retries=retries,
            verify=verify,
            transport=transport,
        )
        self._subscriptions: WeakSet[Subscription] = WeakSet()
        self._lock = threading.Lock()  # Threads may subscribe while another closes.

    def close(self) -> None:
        """Close all connections, and end the loops of all subscriptions. Idempotent."""
        with self._lock:
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.close()
        super().close()

    def add_batch(
        self,
        symbol: str,
        values: npt.ArrayLike,
        from_sequence: int | None = None,
        *,
        exclusive: bool = True,
    ) -> Receipt:
        """Append any number of prices to a symbol, oldest first.

        All prices are checked before any is sent. They are sent in batches of the size that the
        service accepts. Each batch is stored as a whole or not at all. A retry is safe if the batch
        carries its sequence number:

        - With `from_sequence` it does. Prices that are stored there already are compared and not
          added again, so the same call may be repeated at any time.
        - Without it the client asks for the sequence first, and numbers every batch. If another
          program adds prices to the symbol during the call, ``SequenceConflictError`` is raised.
        - With ``exclusive=False`` batches carry no number, and other programs may add prices in
          between. If a reply is lost, the client does not resend the batch and raises
          ``UnconfirmedError``.

        Parameters
        ----------
        symbol : str
            1 to 128 characters, none of them a control character.
        values : sequence of float or int, NumPy array, pandas or polars Series, Arrow array
            1 or more prices, finite and of a magnitude of at most 1e150. Not a generator.
        from_sequence : int, optional
            Number of prices appended to the symbol before these.
        exclusive : bool
            Whether no other program adds to the symbol during the call.

        Returns
        -------
        Receipt
            ``added`` is the number of prices that this call added. If `from_sequence` is given and
            a reply was lost, it may be too low. Pass ``sequence`` as `from_sequence` of the next
            call.

        Raises
        ------
        InvalidSymbolError, InvalidBatchError
            When an argument is invalid; ``index`` is the position of the invalid price. Nothing was
            sent.
        SequenceConflictError
            When different prices are stored at `from_sequence`, or when fewer than `from_sequence`
            prices are stored. ``sequence`` is the number of prices ever appended.
        ServiceError
            On any other failure. All prices before ``receipt.sequence`` are stored. ``receipt`` is
            None if no price was acknowledged.

        Examples
        --------
        >>> receipt = client.add_batch("AAPL", prices)  # doctest: +SKIP
        >>> client.add_batch("AAPL", more, from_sequence=receipt.sequence)  # doctest: +SKIP
        """
        return self.run(adding.add_batch(self.session, symbol, values, from_sequence, exclusive))

    @overload
    def stats(self, symbol: str, k: int) -> Stats: ...
    @overload
    def stats(self, symbol: str, *, last: int) -> Stats: ...
    def stats(self, symbol: str, k: int | None = None, *, last: int | None = None) -> Stats:
        """Return the statistics of the last ``10**k`` prices of a symbol, or of the `last`.

        Parameters
        ----------
        symbol : str
            The symbol.
        k : int
            Exponent of the window.
        last : int
            Length of the window, instead of `k`.

        Raises
        ------
        SymbolNotFoundError, WindowSizeError
            When the symbol or the window does not exist.

        Examples
        --------
        >>> client.stats("AAPL", 3).avg  # doctest: +SKIP
        189.6
        """
        return self.run(asking.stats(self.session, symbol, k, last))

    def all_stats(self, symbol: str | None = None, *, k: int | None = None) -> Table[Stats]:
        """Return the statistics of every window of a symbol.

        If `symbol` is not given, return those of all symbols.

        Parameters
        ----------
        symbol : str, optional
            The symbol; all symbols if not given.
        k : int, optional
            Exponent of a single window; all windows if not given.

        Examples
        --------
        >>> client.all_stats(k=3).to_pandas().set_index("symbol")["avg"]  # doctest: +SKIP
        """
        return self.run(asking.all_stats(self.session, symbol, k))

    def symbols(self) -> Table[Symbol]:
        """Return all symbols, and the number of prices held of each."""
        return self.run(asking.symbols(self.session))

    def limits(self) -> Limits:
        """Return the limits of the service."""
        return self.run(asking.get_limits(self.session))

    def values(self, symbol: str, last: int | None = None) -> Prices:
        """Return the last prices of a symbol, or all of them if there are fewer.

        Parameters
        ----------
        symbol : str
            The symbol.
        last : int, optional
            Number of prices, up to the largest window. By default 1,000, or the largest window
            if that is smaller.

        Returns
        -------
        Prices
            A read-only float64 array, oldest price first. ``first`` is the number of prices before
            its first price. ``sequence`` is the number of prices up to its last price.

        Examples
        --------
        >>> client.values("AAPL", last=1_000_000).to_pandas().plot()  # doctest: +SKIP
        """
        return self.run(reading.values(self.session, symbol, last))

    def verify(self, symbol: str, k: int) -> Check:
        """Have the service recompute one window from its prices and compare.

        It takes half a second for 10**8 prices in memory. The client waits up to five minutes.
        """
        return self.run(asking.verify(self.session, symbol, k))

    def delete(self, symbol: str) -> None:
        """Delete a symbol and all its prices, permanently.

        Raises
        ------
        SymbolNotFoundError
            When the symbol does not exist.
        UnconfirmedError
            When the reply was lost. The client does not retry, because the symbol may have been
            created again.
        """
        return self.run(asking.delete(self.session, symbol))

    def alive(self) -> bool:
        """Return whether the service answers at all. One request, no retries."""
        return self.run(asking.alive(self.session))

    def ready(self) -> Readiness:
        """Return whether the service serves, and the files it rejects. One request, no retries."""
        return self.run(asking.ready(self.session))

    def wait_until_ready(self, seconds: float = 30.0) -> Readiness:
        """Wait for a service that is starting.

        Raises
        ------
        ServiceUnavailableError
            When it does not serve within that time.
        """
        return self.run(asking.wait_until_ready(self.session, seconds))

    def subscribe(
        self,
        *streams: str | Iterable[str],
        on_open: Callable[[], object] = ignore,
        on_lost: Callable[[str], object] = ignore,
        on_restored: Callable[[], object] = ignore,
        on_deleted: Callable[[str], object] = ignore,
    ) -> Subscription:
        """Return an iterator over statistics as they change.

        Each step of ``for`` blocks until the next update. See :meth:`AsyncClient.subscribe`.

        Closing the subscription or the client, in any thread, ends the loop.

        Examples
        --------
        >>> with client.subscribe("stats.AAPL.3") as updates:  # doctest: +SKIP
        ...     for update in updates:
        ...         print(update.sequence, update.avg)
        """
        from financial_data_service.client.subscription import Subscription

        self._must_be_open()
        reactions = Reactions(on_open, on_lost, on_restored, on_deleted)
        retries = self.session.retries
        subscription = Subscription(self._connection, streams, reactions, retries)
        with self._lock:
            self._subscriptions.add(subscription)
        return subscription
