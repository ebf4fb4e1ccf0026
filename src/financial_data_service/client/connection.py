"""How to reach a service, and how transport errors are classified."""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Iterator
from functools import cached_property
from typing import Any, TypeAlias, TypedDict

import httpx

from financial_data_service.client.steps import Lost, Reply, Request
from financial_data_service.version import __version__
from financial_data_service.wire import API_KEY, DEFAULT_URL

__all__ = ["CONNECT_SECONDS", "TIMEOUT_SECONDS", "Connection", "Timeout", "Verify", "trust_advice"]

Timeout: TypeAlias = float | httpx.Timeout
Verify: TypeAlias = ssl.SSLContext | bool
TIMEOUT_SECONDS = 10.0
CONNECT_SECONDS = 5.0

_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))

# OpenSSL's X509_V_ERR_…: self-signed (18), self-signed in the chain (19), an issuer that is not
# known (20), a single certificate whose issuer is not known (21).
_UNKNOWN_AUTHORITY = frozenset((18, 19, 20, 21))

# The request cannot have reached the service.
_UNSENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


class HttpOptions(TypedDict):
    """Arguments of both clients of httpx."""

    timeout: httpx.Timeout
    headers: dict[str, str]
    auth: tuple[str, str] | None
    trust_env: bool
    verify: ssl.SSLContext | bool


class Connection:
    """URL, API key, timeout and trusted certificates for a service.

    It does not hold an open connection.

    Parameters
    ----------
    url : str
        It may contain a path, the prefix under which a proxy publishes the service.
    api_key : str or None
        Sent with every request.
    timeout : float or httpx.Timeout
        Timeout in seconds for each network operation: the longest wait for data from the service.
    verify : ssl.SSLContext or bool
        Trusted certificates. True uses the certificates of the system; ``SSL_CERT_FILE`` and
        ``SSL_CERT_DIR`` replace them.

    Raises
    ------
    ValueError
        When `url` is not the URL of a web server, `timeout` is not a time, or `api_key` is not a
        valid key. The message does not contain the key.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: Timeout = TIMEOUT_SECONDS,
        verify: Verify = True,
    ) -> None:
        self._url = _parsed(url)
        self._api_key = _checked_key(api_key)
        self._timeout = _timeout(timeout)
        self._verify = verify
        self.url = str(self._url.copy_with(username=None, password=None)).rstrip("/")
        """Where the service is, without credentials and without a slash at the end."""

    @property
    def is_local(self) -> bool:
        """Whether the service is on this machine."""
        return self._url.host in _LOOPBACK

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        key = {} if self._api_key is None else {"x-api-key": self._api_key}
        return {"user-agent": f"financial-data-service/{__version__}"} | key

    def http_options(self) -> HttpOptions:
        """Return the arguments of both clients of httpx."""
        return {
            "timeout": self._timeout,
            "headers": self.headers,
            "auth": (self._url.username, self._url.password) if self._url.username else None,
            # A proxy for other networks cannot reach this machine.
            "trust_env": not self.is_local,
            # Plain http needs no certificates, but httpx would load them anyway.
            "verify": self._trust if self._is_secure else False,
        }

    @property
    def _is_secure(self) -> bool:
        return self._url.scheme == "https"

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        """The trusted certificates for HTTP and WebSockets.

        One context is used for both, because the two libraries have different certificate stores.

        Made at the first use: reading the certificates of the system takes longer than a request.
        """
        if isinstance(self._verify, ssl.SSLContext):
            return self._verify
        return ssl.create_default_context() if self._verify else _trusting_anybody()

    def request_options(self, request: Request) -> dict[str, Any]:
        """Return the arguments of httpx's ``request``."""
        options: dict[str, Any] = {
            "method": request.method,
            "url": self.url + request.target,
            "content": request.content or None,
            "headers": request.headers,
        }
        if request.timeout_seconds is not None:
            options["timeout"] = _timeout(request.timeout_seconds)
        return options

    def websocket_url(self, target: str) -> str:
        """Return the URL of a WebSocket of the service, with credentials if there are any."""
        base = str(self._url).rstrip("/")
        return f"ws{base.removeprefix('http')}{target}"

    def websocket_options(self) -> dict[str, Any]:
        """Return the arguments of both ``connect`` functions of ``websockets``."""
        headers = self.headers
        options: dict[str, Any] = {
            "user_agent_header": headers.pop("user-agent"),
            "additional_headers": headers,
            "open_timeout": CONNECT_SECONDS,
            "close_timeout": 1.0,
            # Updates are small and the network is usually fast, so compression costs more time than
            # it saves.
            "compression": None,
        }
        if self._is_secure:
            options["ssl"] = self._trust
        return options | ({"proxy": None} if self.is_local else {})

    def reply(self, response: httpx.Response) -> Reply:
        """Return a complete response."""
        return Reply(response.status_code, response.headers, response.content)

    def lost(self, error: httpx.HTTPError) -> Lost:
        """Describe in a sentence what happened to a request without a reply."""
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
            return Lost(f"Cannot reach {self.url}: no connection within the time allowed.", False)
        if isinstance(error, _UNSENT):
            is_final = any(isinstance(cause, ssl.SSLError) for cause in _causes(error))
            running = " Is the service running? Start it: fds serve"
            advice = trust_advice(error) if is_final else running
            return Lost(f"Cannot reach {self.url} ({reason}).{advice}", False, is_final)
        if isinstance(error, httpx.LocalProtocolError):
            detail = f"Cannot ask {self.url} what HTTP has no way to say ({reason})."
            return Lost(detail, is_sent=False, is_final=True)
        if isinstance(error, httpx.TimeoutException):
            return Lost(f"{self.url} did not answer within the time allowed.", is_sent=True)
        return Lost(
            f"{self.url} broke the connection off or does not speak HTTP ({reason}).",
            is_sent=True,
            is_silent=not self._is_secure and isinstance(error, httpx.TransportError),
        )


def trust_advice(error: BaseException) -> str:
    """Return what to do about a certificate of an unknown authority; empty for any other error.

    A certificate that has expired or is another host's is not mended by trusting it.
    """
    if any(getattr(cause, "verify_code", 0) in _UNKNOWN_AUTHORITY for cause in _causes(error)):
        return (
            " If the certificate is your own, name it, or its authority's, in the environment: "
            "SSL_CERT_FILE=ca.pem"
        )
    return ""


def _timeout(given: Timeout) -> httpx.Timeout:
    if isinstance(given, httpx.Timeout):
        return given
    if not isinstance(given, int | float) or not 0 < given < math.inf:
        raise ValueError(f"Expected a timeout of more than 0 seconds, got {given!r}")
    return httpx.Timeout(given, connect=min(given, CONNECT_SECONDS))


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError(f"Expected a URL such as {DEFAULT_URL}, got {url!r}")
    return parsed


def _checked_key(key: str | None) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str):
        raise TypeError(f"Expected an API key as `str`, got `{type(key).__name__}`")
    if API_KEY.fullmatch(key) is None:
        raise ValueError(
            "Expected an API key of 16 to 256 printable ASCII characters without spaces, got "
            f"{_flaw_of(key)}"
        )
    return key


def _flaw_of(key: str) -> str:
    """Describe what is wrong with a key, without quoting it."""
    if key.endswith(("\n", "\r")):
        return "one that ends with a newline: strip() what is read from a file"
    other = re.search("[^!-~]", key)
    return (
        f"one with another character at index {other.start()}" if other else f"{len(key)} of them"
    )


def _trusting_anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
