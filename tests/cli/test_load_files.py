"""``fds load`` on files that people have: the right prices, or a sentence that names the way on."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from financial_data_service.cli import app
from support.stub_service import StubService

PRICES = [100.5, 101.25, 99.75, 100.0, 102.5]
DAYS = [datetime(2026, 1, 1) + timedelta(days=i) for i in range(5)]
FRAME = pl.DataFrame({"time": DAYS, "price": PRICES})


class Loader:
    """Runs ``fds load`` on files of one directory."""

    def __init__(self, stub: StubService, directory: Path) -> None:
        self.stub, self.directory = stub, directory

    def __call__(self, *arguments: object, symbol: str | None = "S") -> Any:
        words = ["load", *map(str, arguments), "--url", self.stub.url]
        words += ["--symbol", symbol] if symbol else []
        return CliRunner().invoke(app, words, env={"NO_COLOR": "1"}, prog_name="fds")

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def refused(self, *arguments: object, symbol: str | None = "S") -> str:
        result = self(*arguments, symbol=symbol)
        assert result.exit_code == 1
        assert self.stub.prices == {}, "nothing is stored"
        return str(result.stderr)

    def loads(self, *arguments: object, prices: list[float] | None = None) -> Any:
        result = self(*arguments)
        assert result.exit_code == 0, result.stderr
        assert self.stub.prices == {"S": PRICES if prices is None else prices}
        return result


@pytest.fixture
def load(stub: StubService, tmp_path: Path) -> Loader:
    return Loader(stub, tmp_path)


def table(frame: pl.DataFrame, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "csv":
        frame.write_csv(buffer)
    elif kind == "feather":
        frame.write_ipc(buffer)
    elif kind == "parquet":
        frame.write_parquet(buffer)
    else:
        frame.write_ndjson(buffer)
    return buffer.getvalue()


KINDS = ("csv", "feather", "parquet", "jsonl")


@pytest.mark.parametrize("kind", KINDS)
class TestEveryFormat:
    def test_oldest_first_and_again(self, load: Loader, kind: str) -> None:
        path = load.write("p", table(FRAME, kind))
        assert "S: 5 added" in load.loads(path).stdout
        assert "S: 5 already stored, 0 added" in load.loads(path).stdout

    def test_newest_first_is_turned_round_and_said(self, load: Loader, kind: str) -> None:
        path = load.write("p", table(FRAME.reverse(), kind))
        assert "is newest first by its column 'time'; it is turned round" in load.loads(path).stderr

    def test_mixed_order_is_refused_with_the_row(self, load: Loader, kind: str) -> None:
        path = load.write("p", table(FRAME[[0, 1, 3, 2, 4]], kind))
        place = {"csv": "line 5", "jsonl": "line 4"}.get(kind, "row 4")
        sentence = load.refused(path)
        assert f"{path}, {place}: its time is earlier than that of" in sentence
        load.loads(path, "--order", "file", prices=[PRICES[i] for i in (0, 1, 3, 2, 4)])

    def test_several_symbols(self, load: Loader, kind: str) -> None:
        path = load.write("p", table(FRAME.with_columns(symbol=pl.Series([*"ABABA"])), kind))
        sentence = load.refused(path)
        assert "holds prices of A, B, not S, says its column 'symbol'" in sentence
        assert "--symbol-column symbol loads each symbol into its own" in sentence
        assert load(path, "--symbol-column", "symbol", symbol=None).exit_code == 0
        assert load.stub.prices == {"A": PRICES[::2], "B": PRICES[1::2]}

    def test_one_symbol_of_several(self, load: Loader, kind: str) -> None:
        path = load.write("p", table(FRAME.with_columns(symbol=pl.Series([*"ABSBS"])), kind))
        load.loads(path, "--symbol-column", "symbol", prices=[PRICES[2], PRICES[4]])

    def test_gaps(self, load: Loader, kind: str) -> None:
        frame = FRAME.with_columns(price=pl.Series([1.0, None, 2.0, None, 3.0]))
        path = load.write("p", table(frame, kind))
        assert "column 'price': the cell is empty. --gaps skip" in load.refused(path)
        result = load.loads(path, "--gaps", "skip", prices=[1.0, 2.0, 3.0])
        assert "2 rows without a price left out" in result.stderr

    def test_in_an_archive(self, load: Loader, kind: str) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("b", table(FRAME[2:], kind))
            archive.writestr("a", table(FRAME[:2], kind))
        path = load.write("p.zip", packed.getvalue())
        load.loads(path)
        load.stub.prices.clear()
        load.loads(path, "--member", "b", prices=PRICES[2:])

    def test_dry_run(self, load: Loader, kind: str) -> None:
        path = load.write("p", table(FRAME.reverse(), kind))
        result = load(path, "--dry-run")
        assert result.exit_code == 0
        assert load.stub.prices == {}
        assert "times from column 'time', newest first, to be turned round" in result.stdout
        assert "S: 5 prices, first 100.5, 101.25, 99.75; last 99.75, 100.0, 102.5" in result.stdout


class TestSymbols:
    def test_a_symbol_agrees_whatever_its_signs(self, load: Loader) -> None:
        path = load.write("p", "symbol,price\nBTCUSDT,1\nBTCUSDT,2\n")
        assert load(path, symbol="BTC/USDT").exit_code == 0
        assert load.stub.prices == {"BTC/USDT": [1.0, 2.0]}

    def test_another_symbol(self, load: Loader) -> None:
        path = load.write("p", "symbol,price\nBTCUSDT,1\n")
        assert "holds prices of BTCUSDT, not S" in load.refused(path)
        load.loads(path, "--symbol-column", "none", prices=[1.0])

    def test_no_symbol_at_all(self, load: Loader) -> None:
        path = load.write("p", "price\n1\n")
        assert "Say whose prices it holds: --symbol" in load.refused(path, symbol=None)

    def test_each_symbol_has_an_order_of_its_own(self, load: Loader) -> None:
        path = load.write("p", "symbol,time,price\nA,1,1\nA,2,2\nB,1,3\nB,2,4\n")
        assert load(path, "--symbol-column", "symbol", symbol=None).exit_code == 0
        assert load.stub.prices == {"A": [1.0, 2.0], "B": [3.0, 4.0]}

    def test_an_append_needs_a_symbol(self, load: Loader) -> None:
        path = load.write("p", "symbol,price\nA,1\n")
        result = load(path, "--append", "--symbol-column", "symbol", symbol=None)
        assert result.exit_code == 2
        assert "need --symbol" in result.stderr


class TestNumbers:
    def test_a_european_file_loads_with_what_the_first_error_taught(self, load: Loader) -> None:
        path = load.write("p", "Datum;Kurs\n01.01.2026;1.100,13\n02.01.2026;1.101,5\n")
        sentence = load.refused(path, "--column", "Kurs")
        assert "line 2, column 'Kurs': '1.100,13' is not a number" in sentence
        assert "--decimal , --thousands . would read 1100.13" in sentence
        flags = ("--decimal", ",", "--thousands", ".")
        load.loads(path, "--column", "Kurs", *flags, prices=[1100.13, 1101.5])

    def test_a_decimal_comma_on_the_fast_way(self, load: Loader) -> None:
        rows = "".join(f"{i};{i},25\n" for i in range(1000))
        path = load.write("p", "time;price\n" + rows)
        load.loads(path, "--decimal", ",", prices=[i + 0.25 for i in range(1000)])

    def test_currency(self, load: Loader) -> None:
        load.loads(load.write("p", 'price,x\n"$1,234.50",1\n$2.5,1\n'), "--thousands", ",",
                   prices=[1234.5, 2.5])  # fmt: skip

    @pytest.mark.parametrize("gap", ["", "NaN", "null", ".", "-", "N/A"])
    def test_gaps_in_text(self, load: Loader, gap: str) -> None:
        path = load.write("p", f"time,price\n1,1.5\n2,{gap}\n3,2.5\n")
        assert "line 3, column 'price': " in (sentence := load.refused(path))
        assert "--gaps skip leaves out such rows" in sentence
        load.loads(path, "--gaps", "skip", prices=[1.5, 2.5])

    @pytest.mark.parametrize(("option", "value"), [("--decimal", "ab"), ("--thousands", "1")])
    def test_a_sign_is_one_sign(self, load: Loader, option: str, value: str) -> None:
        result = load(load.write("p", "1\n"), option, value)
        assert result.exit_code == 2
        assert "expected one sign" in result.stderr


class TestFiles:
    def test_a_pattern_goes_on_where_it_was(self, load: Loader) -> None:
        for day, price in ((9, "2"), (10, "3"), (1, "1")):
            load.write(f"trades-{day}.csv", f"time,price\n{day},{price}\n")
        pattern = load.directory / "trades-*.csv"
        load.stub.prices["S"] = [1.0, 2.0]
        result = load.loads(pattern, prices=[1.0, 2.0, 3.0])
        assert "2 already stored, 1 added from" in result.stdout
        assert "3 already stored" in load.loads(load.directory, prices=[1.0, 2.0, 3.0]).stdout

    def test_files_out_of_order(self, load: Loader) -> None:
        one = load.write("1", "time,price\n5,1\n")
        two = load.write("2", "time,price\n4,2\n")
        assert f"{two} begins before the end of the file before it" in load.refused(one, two)
        load.loads(one, two, "--order", "file", prices=[1.0, 2.0])

    def test_what_is_above_the_table(self, load: Loader) -> None:
        text = "https://example.com\n# note\nunix,date,symbol,close\n2,b,S,1.5\n1,a,S,2.5\n"
        result = load.loads(load.write("p", text), prices=[2.5, 1.5])
        assert "no column 'price'; its column 'close' is taken" in result.stderr

    def test_a_gap_or_a_quote_far_inside(self, load: Loader) -> None:
        """The fast reader hands over to the careful one, and line numbers stay right."""
        rows = [f"{i},{i}.5\n" for i in range(400_000)]
        rows[399_990] = '399990,"399990.5"\n'
        path = load.write("p", "time,price\n" + "".join(rows))
        load.loads(path, prices=[i + 0.5 for i in range(400_000)])
        load.stub.prices.clear()
        rows[399_995] = "399995,x\n"
        path = load.write("p", "time,price\n" + "".join(rows))
        assert "line 399,997, column 'price': 'x' is not a number" in load.refused(path)

    def test_a_line_with_more_cells_far_inside(self, load: Loader) -> None:
        rows = [f"{i},{i}.5\n" for i in range(1000)]
        rows[777] = "777,777,5\n"
        path = load.write("p", "time,price\n" + "".join(rows))
        assert "line 779: the line has 3 cells, more than the 2 columns" in load.refused(path)

    def test_json_that_is_not_lines(self, load: Loader) -> None:
        path = load.write("p.json", json.dumps([{"price": 1.5}]))
        assert "is one JSON document, not JSON lines" in load.refused(path)
        path = load.write("p.json", '{"price": 1.5}\n{"price": \n')
        assert "line 2: expected a JSON object, got: " in load.refused(path)

    def test_a_json_number_is_the_nearest_float64(self, load: Loader) -> None:
        path = load.write("p.json", '{"p": 0.1}\n{"p": "1e22"}\n{"p": 123456789.12345679}\n')
        load.loads(path, prices=[0.1, 1e22, 123456789.12345679])

    def test_a_time_that_cannot_be_read(self, load: Loader) -> None:
        days = [f"2026-01-{day:02}" for day in range(1, 29)] * 2
        rows = "".join(f"{day},1\n" for day in [*sorted(days), "soon"])
        sentence = load.refused(load.write("p", "date,price\n" + rows))
        assert "line 58: 'soon' is not a time" in sentence
        assert "--order file" in sentence
