"""Settings: defaults, environment, ranges, and the messages for invalid values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from financial_data_service.settings import Settings, unknown_variables

DEFAULTS = {
    "host": "127.0.0.1",
    "port": 8000,
    "max_symbols": 10,
    "largest_window": 100_000_000,
    "batch_max": 10_000,
    "body_max_bytes": 2_097_152,
    "data_dir": None,
    "durability": "process",
    "workers": 1,
    "log_level": "info",
    "log_format": "human",
    "access_log": False,
    "root_path": "",
    "forwarded_allow_ips": ("127.0.0.1", "::1"),
    "api_key": None,
    "in_flight_max": 1000,
    "cors_origins": (),
    "ssl_certfile": None,
    "ssl_keyfile": None,
    "ssl_keyfile_password": None,
    "stream_connections_max": 1000,
    "stream_subscriptions_max": 200,
    "stream_message_bytes_max": 65_536,
}

KEY = "a-key-of-24-characters-x"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("FDS_"):
            monkeypatch.delenv(name)


def error_of(**values: Any) -> Any:
    with pytest.raises(ValidationError) as raised:
        Settings(**values)
    (error,) = raised.value.errors()
    return error


@pytest.mark.parametrize(
    ("text", "proxies"),
    [
        ("", ()),
        ("*", ("*",)),
        ("10.0.0.0/8, 192.0.2.7,::1", ("10.0.0.0/8", "192.0.2.7", "::1")),
    ],
)
def test_trusted_proxies(text: str, proxies: tuple[str, ...]) -> None:
    assert Settings(forwarded_allow_ips=text).forwarded_allow_ips == proxies  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0.1/8", "127.0.0.1,x", "/var/run/x"])
def test_a_proxy_is_an_address_or_a_network(text: str) -> None:
    error = error_of(forwarded_allow_ips=text)
    assert error["loc"] == ("forwarded_allow_ips",)
    assert "addresses and networks (192.0.2.7, 10.0.0.0/8, ::1)" in error["msg"]


def test_defaults() -> None:
    assert Settings().model_dump().items() >= DEFAULTS.items()


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("FDS_HOST", "0.0.0.0", "0.0.0.0"),
        ("FDS_PORT", "0", 0),
        ("FDS_PORT", "65535", 65535),
        ("FDS_MAX_SYMBOLS", "1", 1),
        ("FDS_LARGEST_WINDOW", "10", 10),
        ("FDS_LARGEST_WINDOW", "12345", 12345),
        ("FDS_BATCH_MAX", "1000000", 1_000_000),
        ("FDS_BODY_MAX_BYTES", "1024", 1024),
        ("FDS_DATA_DIR", "/var/lib/fds", Path("/var/lib/fds")),
        ("FDS_DATA_DIR", "prices", Path("prices")),
        ("FDS_DATA_DIR", "~/prices", Path.home() / "prices"),
        ("FDS_WORKERS", "64", 64),
        ("FDS_LOG_LEVEL", "trace", "trace"),
        ("FDS_ACCESS_LOG", "1", True),
        ("FDS_ACCESS_LOG", "false", False),
        ("FDS_FAST_LANE", "0", False),
        ("FDS_ROOT_PATH", "/prices", "/prices"),
        ("FDS_LOG_FORMAT", "json", "json"),
        ("FDS_IN_FLIGHT_MAX", "1", 1),
        ("FDS_CORS_ORIGINS", "", ()),
        ("FDS_CORS_ORIGINS", "*", ("*",)),
        ("FDS_CORS_ORIGINS", "http://localhost:8501", ("http://localhost:8501",)),
        (
            "FDS_CORS_ORIGINS",
            "https://a.example, http://[::1]",
            ("https://a.example", "http://[::1]"),
        ),
        ("FDS_SSL_CERTFILE", "~/chain.pem", Path.home() / "chain.pem"),
        ("FDS_STREAM_CONNECTIONS_MAX", "1", 1),
        ("FDS_STREAM_SUBSCRIPTIONS_MAX", "10000", 10_000),
        ("FDS_STREAM_MESSAGE_BYTES_MAX", "1024", 1024),
        ("fds_port", "9000", 9000),
    ],
)
def test_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(Settings(), variable.lower().removeprefix("fds_")) == value


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDS_PORT", "9000")
    monkeypatch.setenv("FDS_MAX_SYMBOLS", "20")
    settings = Settings(port=9001)
    assert (settings.port, settings.max_symbols) == (9001, 20)


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("FDS_URL", "http://elsewhere")
    assert Settings().port == 8000


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("port", -1, "Input should be greater than or equal to 0"),
        ("port", 65536, "Input should be less than or equal to 65535"),
        ("max_symbols", 0, "Input should be greater than or equal to 1"),
        ("largest_window", 9, "Input should be greater than or equal to 10"),
        ("largest_window", 10**8 + 1, "Input should be less than or equal to 100000000"),
        ("batch_max", 0, "Input should be greater than or equal to 1"),
        ("batch_max", 1_000_001, "Input should be less than or equal to 1000000"),
        ("body_max_bytes", 1023, "Input should be greater than or equal to 1024"),
        ("workers", 0, "Input should be greater than or equal to 1"),
        ("workers", 65, "Input should be less than or equal to 64"),
        ("durability", "disk", "Input should be 'process' or 'power'"),
        ("data_dir", "", "must name a directory or not be given"),
        ("ssl_certfile", "", "must name a file or not be given"),
        ("ssl_keyfile", "", "must name a file or not be given"),
        ("log_format", "xml", "Input should be 'human' or 'json'"),
        ("in_flight_max", 0, "Input should be greater than or equal to 1"),
        ("stream_connections_max", 0, "Input should be greater than or equal to 1"),
        ("stream_subscriptions_max", 0, "Input should be greater than or equal to 1"),
        ("stream_subscriptions_max", 10_001, "Input should be less than or equal to 10000"),
        ("stream_message_bytes_max", 1023, "Input should be greater than or equal to 1024"),
        ("stream_message_bytes_max", 2**24 + 1, "Input should be less than or equal to 16777216"),
        ("port", "http", "Input should be a valid integer, unable to parse string as an integer"),
        (
            "log_level",
            "loud",
            "Input should be 'critical', 'error', 'warning', 'info', 'debug' or 'trace'",
        ),
    ],
)
def test_values_out_of_range(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object, message: str
) -> None:
    error = error_of(**{name: value})
    assert (error["loc"], error["msg"], error["input"]) == ((name,), message, value)
    monkeypatch.setenv(f"FDS_{name.upper()}", str(value))
    error = error_of()
    assert (error["loc"], error["msg"]) == ((name,), message)


def test_durability_against_power_failures_needs_a_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = error_of(durability="power")
    assert error["loc"] == ()
    assert error["msg"] == (
        "`durability` power needs `data_dir`: prices in memory survive no power failure"
    )
    monkeypatch.setenv("FDS_DATA_DIR", "/var/lib/fds")
    assert Settings(durability="power").durability == "power"


@pytest.mark.parametrize(
    "origin",
    [
        "example.com",
        "https://a.example/",
        "https://a.example/x",
        "https://A.example",
        "null",
        "https://u@a",
    ],
)
def test_origins_are_written_as_browsers_send_them(origin: str) -> None:
    error = error_of(cors_origins=f"https://fine.example,{origin}")
    assert error["loc"] == ("cors_origins",)
    assert "as browsers send them" in error["msg"]


@pytest.mark.parametrize("name", ["ssl_keyfile", "ssl_keyfile_password"])
def test_there_is_no_tls_without_a_certificate(name: str) -> None:
    values: dict[str, Any] = {name: "something"}
    error = error_of(**values)
    assert error["loc"] == ()
    assert error["msg"] == (f"`{name}` needs `ssl_certfile`: there is no TLS without a certificate")
    settings = Settings(ssl_certfile=Path("chain.pem"), **values)
    assert settings.ssl_certfile == Path("chain.pem")


@pytest.mark.parametrize("key", [KEY, "!" * 16, "~" * 256])
def test_a_key_that_fits_into_a_header(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("FDS_API_KEY", key)
    api_key = Settings().api_key
    assert api_key is not None
    assert api_key.get_secret_value() == key


@pytest.mark.parametrize(
    "key", ["", "x" * 15, "x" * 257, "a key with some spaces", "ключ" * 5, f"{KEY}\n"]
)
def test_a_key_that_does_not_fit(key: str) -> None:
    error = error_of(api_key=key)
    assert error["msg"] == "must be 16 to 256 printable ASCII characters without spaces"


def test_secrets_are_not_shown() -> None:
    password = "a-password-of-some-length"
    settings = Settings(api_key=KEY, ssl_certfile="x.pem", ssl_keyfile_password=password)  # type: ignore[arg-type]
    for text in (
        repr(settings),
        str(settings),
        str(settings.model_dump()),
        settings.model_dump_json(),
    ):
        assert KEY not in text
        assert password not in text


@pytest.mark.parametrize(
    "values",
    [
        {"api_key": "short-secret"},
        {"api_key": KEY, "durability": "power"},
        {"ssl_keyfile_password": "short-secret"},
        {"api_key": KEY, "port": -1},
    ],
)
def test_secrets_are_in_no_error(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        Settings(**values)
    for text in (str(raised.value), repr(raised.value)):
        assert "short-secret" not in text
        assert KEY not in text


def test_a_setting_that_does_not_exist() -> None:
    assert error_of(max_symbol=1)["type"] == "extra_forbidden"


def test_settings_do_not_change() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith(".")


@pytest.mark.parametrize("root_path", ["prices", "/prices/", "/", "/a?b"])
def test_a_root_path_begins_with_a_slash_and_does_not_end_with_one(root_path: str) -> None:
    with pytest.raises(ValidationError, match="root_path"):
        Settings(root_path=root_path)


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("FDS_MAX_SYMBOL", "FDS_MAX_SYMBOLS"),
        ("FDS_APIKEY", "FDS_API_KEY"),
        ("fds_ports", "FDS_PORT"),
        ("FDS_CORS_ORIGIN", "FDS_CORS_ORIGINS"),
        ("FDS_", None),
        ("FDS_XYZZY", None),
    ],
)
def test_variables_that_are_no_settings_are_found(name: str, similar: str | None) -> None:
    assert unknown_variables({name: "3", "FDS_HOST": "::1"}) == {name: similar}


def test_variables_that_somebody_reads_are_known() -> None:
    known = {f"FDS_{name.upper()}": "" for name in Settings.model_fields}
    others = dict.fromkeys(("FDS_URL", "FDS_DEBUG", "fds_host", "FDS", "PATH", "XFDS_A"), "")
    assert unknown_variables(known | others) == {}
