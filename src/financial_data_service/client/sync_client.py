"""``Client``: the service in blocking calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self, TypeVar, overload
from weakref import WeakSet

import httpx
import numpy.typing as npt

from financial_data_service.client import adding, asking
from financial_data_service.client.connection import TIMEOUT_SECONDS, Connection, Timeout, Verify
from financial_data_service.client.exchange import Session
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
from financial_data_service.client.steps import Outcome, Pause, Plan, Request
from financial_data_service.client.stream_state import Reactions, ignore
from financial_data_service.wire import DEFAULT_URL

if TYPE_CHECKING:
    from financial_data_service.client.subscription import Subscription

__all__ = ["Client"]

Result = TypeVar("Result")


class Client:
    """A service, in calls that wait for its answer. Threads may share it; processes may not.

    A question is repeated for a while when the service is away or busy; a change only where that
    cannot make it twice (see :class:`~financial_data_service.client.retries.Retries`).

    Parameters
    ----------
    url : str
        Where the service is; a path in it is the prefix of a proxy. A user and a password in it are
        sent as HTTP basic authentication.
    api_key : str, optional
        Sent as ``X-API-Key``: 16 to 256 printable ASCII characters.
    timeout : float or httpx.Timeout
        Seconds that the service may be silent.
    retries : Retries or int
        How patiently requests are repeated; a number stands for so many repetitions.
    verify : ssl.SSLContext or bool
        Which certificates are trusted; if not given those of the system, whose file and directory
        ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` take the place of.
    transport : httpx.BaseTransport, optional
        What carries the requests: a proxy, a Unix socket, a stand-in in a test. Without it proxies
        are those of the environment, and none for this machine.

    Raises
    ------
    ValueError
        When `url` is none of a web server, or `api_key` none of a service (it is not quoted), or a
        time or number of repetitions is none; and from every call of a client that was closed.
    ServiceError
        From every call, of a kind that fits: a ``SymbolNotFoundError`` where there is no such
        symbol, a ``ServiceUnavailableError`` where the service cannot be reached, …; ``status`` and
        ``detail`` are the service's own.

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
        self._connection = Connection(url, api_key, timeout, verify)
        self._session = Session(self._connection.url, Retries.of(retries))
        self._http = httpx.Client(transport=transport, **self._connection.http_options())
        self._subscriptions: WeakSet[Subscription] = WeakSet()
        self._lock = threading.Lock()  # Threads may subscribe while another closes.

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._connection.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, and end the loops of all subscriptions. Idempotent."""
        with self._lock:
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.close()
        self._http.close()

    def add_batch(
        self,
        symbol: str,
        values: npt.ArrayLike,
        from_sequence: int | None = None,
        *,
        exclusive: bool = True,
    ) -> Receipt:
        """Append prices to a symbol, oldest first, however many; what is lost is sent again.

        Checked whole before anything is sent, then sent in batches as long as the service takes.
        Each batch is stored whole or not at all, and once, whatever becomes of replies:

        - With `from_sequence` the prices have a place of their own. What is stored there already is
          compared and not added again, so the same call may be made again by anyone at any time.
        - Without it they go behind what is there when the call begins. The client asks where that
          is and sees to it that each batch comes right behind the one before. Prices that somebody
          else adds to the symbol meanwhile are a ``SequenceConflictError``.
        - With ``exclusive=False`` they go among those of others. A batch of which nobody knows what
          became is not sent again then: it is an ``UnconfirmedError``.

        Parameters
        ----------
        symbol : str
            1 to 128 characters, none of them a control character.
        values : sequence of float or int, NumPy array, pandas or polars Series, Arrow array
            1 or more prices, finite and of magnitude 1e150 at most. Not a generator: it could be
            neither checked before nor sent again.
        from_sequence : int, optional
            Number of prices appended to the symbol before these.
        exclusive : bool
            Whether nobody else adds to the symbol while the call lasts.

        Returns
        -------
        Receipt
            ``added`` counts what was not stored before; with `from_sequence`, before the last try
            of each batch, so that after a lost reply it may be less than this call has added.
            ``sequence`` is where the next prices start, to be given as `from_sequence` by who wants
            to spare the client asking.

        Raises
        ------
        InvalidSymbolError, InvalidBatchError
            When an argument is unfit; ``index`` says which price. Nothing was sent.
        SequenceConflictError
            When other prices are stored there, or fewer than `from_sequence`; ``sequence`` says how
            many there are.
        ServiceError
            Of any kind. Its ``receipt`` says what had been acknowledged by then, if anything: all
            prices before ``receipt.sequence`` are stored.

        Examples
        --------
        >>> receipt = client.add_batch("AAPL", prices)  # doctest: +SKIP
        >>> client.add_batch("AAPL", more, from_sequence=receipt.sequence)  # doctest: +SKIP
        """
        return self._run(adding.add_batch(self._session, symbol, values, from_sequence, exclusive))

    @overload
    def stats(self, symbol: str, k: int) -> Stats: ...
    @overload
    def stats(self, symbol: str, *, last: int) -> Stats: ...
    def stats(self, symbol: str, k: int | None = None, *, last: int | None = None) -> Stats:
        """Return the statistics of the last ``10**k`` prices of a symbol, or of any number of them.

        Parameters
        ----------
        symbol : str
            Whose prices.
        k : int
            Exponent of the window.
        last : int
            Length of the window, instead of `k`.

        Raises
        ------
        SymbolNotFoundError, WindowSizeError
            When there is no such symbol or window.

        Examples
        --------
        >>> client.stats("AAPL", 3).avg  # doctest: +SKIP
        189.6
        """
        return self._run(asking.stats(self._session, symbol, k, last))

    def all_stats(self, symbol: str | None = None, *, k: int | None = None) -> Table[Stats]:
        """Return the statistics of every window of a symbol or, without one, of all symbols.

        Parameters
        ----------
        symbol : str, optional
            Whose prices; all symbols if not given.
        k : int, optional
            Exponent of the only window wanted.

        Examples
        --------
        >>> client.all_stats(k=3).to_pandas().set_index("symbol")["avg"]  # doctest: +SKIP
        """
        return self._run(asking.all_stats(self._session, symbol, k))

    def symbols(self) -> Table[Symbol]:
        """Return the symbols that there are, and how much is held of each."""
        return self._run(asking.symbols(self._session))

    def limits(self) -> Limits:
        """Return the limits of the service."""
        return self._run(asking.get_limits(self._session))

    def values(self, symbol: str, last: int | None = None) -> Prices:
        """Return the last prices of a symbol: all there are while they are fewer.

        Parameters
        ----------
        symbol : str
            Whose prices.
        last : int, optional
            How many, at most those of the largest window; 1,000 if not given, or those of the
            largest window where that is smaller.

        Returns
        -------
        Prices
            A read-only float64 array, oldest price first; ``first`` and ``sequence`` say which
            prices they are.

        Examples
        --------
        >>> client.values("AAPL", last=1_000_000).to_pandas().plot()  # doctest: +SKIP
        """
        return self._run(asking.values(self._session, symbol, last))

    def verify(self, symbol: str, k: int) -> Check:
        """Have the service recompute one window from its prices and compare.

        Takes it half a second for 10**8 prices in memory; it may be silent for five minutes.
        """
        return self._run(asking.verify(self._session, symbol, k))

    def delete(self, symbol: str) -> None:
        """Have the service forget a symbol and all its prices. There is no way back.

        Raises
        ------
        SymbolNotFoundError
            When there is no such symbol.
        UnconfirmedError
            When the reply was lost. It is not asked again: it could meet a new symbol of that name.
        """
        return self._run(asking.delete(self._session, symbol))

    def alive(self) -> bool:
        """Return whether the service answers at all; asked once."""
        return self._run(asking.alive(self._session))

    def ready(self) -> Readiness:
        """Return whether the service serves, and which files of prices it does not; asked once."""
        return self._run(asking.ready(self._session))

    def wait_until_ready(self, seconds: float = 30.0) -> Readiness:
        """Wait for a service that is starting.

        Raises
        ------
        ServiceUnavailableError
            When it does not serve by then.
        """
        return self._run(asking.wait_until_ready(self._session, seconds))

    def subscribe(
        self,
        *streams: str | Iterable[str],
        on_lost: Callable[[str], object] = ignore,
        on_restored: Callable[[], object] = ignore,
        on_deleted: Callable[[str], object] = ignore,
    ) -> Subscription:
        """Return statistics as they change; waits in ``for``. As of :meth:`AsyncClient.subscribe`.

        ``close`` of the subscription or of the client ends a loop in another thread.

        Examples
        --------
        >>> with client.subscribe("stats.AAPL.3") as updates:  # doctest: +SKIP
        ...     for update in updates:
        ...         print(update.sequence, update.avg)
        """
        from financial_data_service.client.subscription import Subscription

        self._must_be_open()
        reactions = Reactions(on_lost, on_restored, on_deleted)
        retries = self._session.retries
        subscription = Subscription(self._connection, streams, reactions, retries)
        with self._lock:
            self._subscriptions.add(subscription)
        return subscription

    def _must_be_open(self) -> None:
        if self._http.is_closed:
            raise ValueError(f"{self!r} is closed: nothing can be asked of it")

    def _run(self, plan: Plan[Result]) -> Result:
        outcome: Outcome = None
        while True:
            try:
                step = plan.send(outcome)
            except StopIteration as end:
                result: Result = end.value
                return result
            outcome = self._do(step)

    def _do(self, step: Request | Pause) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        self._must_be_open()
        try:
            response = self._http.request(**self._connection.request_options(step))
        except httpx.HTTPError as error:
            return self._connection.lost(error)
        return self._connection.reply(response)
