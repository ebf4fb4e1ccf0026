"""Files of prices: every float64 of CSV and Parquet is read to the bit, or its place is named.

Round trips by Hypothesis, variants of CSV by example.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import struct
import sys
import threading
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from financial_data_service.cli.console import CliError
from financial_data_service.cli.price_files.options import ReadingOptions
from financial_data_service.cli.price_files.reading import Reading
from financial_data_service.cli.price_files.sources import find_sources
from support.price_files import EXAMPLE, bits

finite_floats = st.floats(allow_nan=False, allow_infinity=False)
any_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
)


def prices_of(path: Path, column: str | None = None) -> list[float]:
    """Read a file whose rows are taken as they stand."""
    options = ReadingOptions(column, keeps_file_order=True)
    with ExitStack() as stack:
        reading = Reading(stack, options, "S")
        for source in find_sources([str(path)], None):
            reading.read(source, lambda _: None)
        spool = reading.spools.get("S")
        return [] if spool is None else [float(each) for each in spool.read(0, len(spool))]


class TestCsv:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
    @given(
        rows=st.lists(st.tuples(any_text, finite_floats), min_size=1),
        delimiter=st.sampled_from(",;\t"),
        line_end=st.sampled_from(["\n", "\r\n"]),
        compress=st.booleans(),
    )
    def test_every_float_arrives_bit_for_bit_beside_any_text(
        self,
        tmp_path: Path,
        rows: list[tuple[str, float]],
        delimiter: str,
        line_end: str,
        compress: bool,
    ) -> None:
        text = io.StringIO()
        # Before Python 3.13 the writer does not quote a carriage return by itself.
        has_return = any("\r" in note for note, _ in rows)
        writer = csv.writer(
            text,
            delimiter=delimiter,
            lineterminator=line_end,
            quoting=csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL,
        )
        writer.writerow(["note", "price"])
        writer.writerows((note, repr(price)) for note, price in rows)
        content = text.getvalue().encode()
        path = tmp_path / "prices.csv"
        path.write_bytes(gzip.compress(content) if compress else content)
        expected = bits([price for _, price in rows])
        assert bits(prices_of(path)) == expected
        assert bits(prices_of(path, "2")) == expected

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
    @given(st.lists(st.decimals(-(10**9), 10**9, places=12), min_size=1))
    def test_a_decimal_becomes_the_nearest_float64(
        self, tmp_path: Path, decimals: list[Decimal]
    ) -> None:
        path = tmp_path / "prices.csv"
        path.write_text("".join(f"{decimal:f}\n" for decimal in decimals))
        assert bits(prices_of(path)) == bits([float(decimal) for decimal in decimals])

    @pytest.mark.parametrize(
        ("content", "column", "expected"),
        [
            (b"1.5\n2.5\n", None, [1.5, 2.5]),
            (b"1.5", None, [1.5]),
            (b"price\n1.5\n", None, [1.5]),
            (b"\xef\xbb\xbfprice,size\n1.5,9\n", None, [1.5]),
            (b"\xef\xbb\xbf1.5\n2.5\n", None, [1.5, 2.5]),
            ("price\n1.5\n".encode("utf-16"), None, [1.5]),
            (b"close\n1.5\n", None, [1.5]),
            (b"\n\ntime,price\n\n1,1.5\n   \n2,2.5\n\n", None, [1.5, 2.5]),
            (b"time;price\n1,5;1.5\n1,6;2.5\n", None, [1.5, 2.5]),
            (b"1,5;1.5\n1,6;2.5\n", "2", [1.5, 2.5]),
            (b"time\tprice\n1\t1.5\n", None, [1.5]),
            (b"note,price\n'a;b',1.5\n'c;d;e',2.5\n", None, [1.5, 2.5]),
            (b'note,price\n"a\n,b",1.5\n', None, [1.5]),
            (b"time, price \n1, 1.5 \n", None, [1.5]),
            (b"time,Price\n1,1.5\n", None, [1.5]),
            (b"price,Price\n1.5,9\n", None, [1.5]),
            (b"a,b,c\n1,2,3\n", "b", [2.0]),
            (b"a,b,c\n1,2,3\n", "3", [3.0]),
            (b"a,3,c\n1,2,9\n", "c", [9.0]),
            (b"20200101 170000065,1.1212,1.12172,0\n", "3", [1.12172]),
            (b"price,size\n1.5\n2.5,3, ,\n", None, [1.5, 2.5]),
            (b"price\n1e3\n-0.0\n+5\n.5\n1.\n", None, [1000.0, -0.0, 5.0, 0.5, 1.0]),
            (b"caf\xe9,price\n\xff\xfe,1.5\n", None, [1.5]),
            (b"price\r1.5\r2.5\r", None, [1.5, 2.5]),
            (b"price\n", None, []),
        ],
    )
    def test_variants(
        self, tmp_path: Path, content: bytes, column: str | None, expected: list[float]
    ) -> None:
        path = tmp_path / "prices.csv"
        path.write_bytes(content)
        assert bits(prices_of(path, column)) == bits(expected)

    @pytest.mark.parametrize(
        ("content", "column", "sentence"),
        [
            (b"", None, "is empty."),
            (b"\n \n", None, "is empty."),
            (b"a,b\n1,2\n", None, "has no column 'price'; its columns are 1 'a', 2 'b'. Choose"),
            (b"1,2\n", None, "has no header, its first row is 1 '1', 2 '2'. Choose"),
            (b"a,b\n1,2\n", "c", "has no column 'c'"),
            (b"a,b\n1,2\n", "3", "has no column '3'"),
            (b"a,b\n1,2\n", "0", "has no column '0'"),
            (b"price\n1\n", "size", "has no column 'size'; its columns are 1 'price'"),
            (b"price,price\n1,2\n", None, "has 2 columns 'price'"),
            (b"price\n1\n\nabc\n", None, "line 4, column 'price': 'abc' is not a number."),
            (b"1\n2\nnan\n", None, "line 3, column 1: 'nan' is not a finite number."),
            (b"nan\n", None, "line 1, column 1: 'nan' is not a finite number."),
            (b"1\n-inf\n", None, "line 2, column 1: '-inf' is not a finite number."),
            (b"1\n1e400\n", None, "line 2, column 1: '1e400' is not a finite number."),
            (b"1\n1_000\n", None, "line 2, column 1: '1_000' is not a number."),
            (b'1\n"1,000.5"\n', None, "line 2, column 1: '1,000.5' is not a number."),
            (b"t,price\n1,2\n3,\n", None, "line 3, column 'price': the cell is empty."),
            (b"t,price\n1,2\n3\n", None, "line 3, column 'price': the line has only 1 of"),
            (
                b"price,size\n1.5\n2.5,3,4\n",
                None,
                "line 3: the line has 3 cells, more than the 2 col",
            ),
            (b"time,price\n1,100,13\n", None, "line 2: the line has 3 cells, more than the 2"),
            (bytes(range(256)) * 9, None, "is neither text nor Parquet, Arrow or a known archive"),
            (b"\xff\x80" * 99, None, "it begins with the bytes ff 80 ff 80 ff 80 ff 80."),
            (b"t,price\n1,2\n3," + b"x" * 99, None, "…' is not a number."),
            (b'price\n1\n"2\n' + b"3\n" * 99_999, None, "after line"),
        ],
    )
    def test_what_is_refused_is_told_with_its_place(
        self, tmp_path: Path, content: bytes, column: str | None, sentence: str
    ) -> None:
        path = tmp_path / "prices.csv"
        path.write_bytes(content)
        with pytest.raises(CliError) as caught:
            prices_of(path, column)
        assert str(path) in str(caught.value)
        assert sentence in str(caught.value)

    @pytest.mark.parametrize("kept_bytes", [20, 2000])
    def test_a_damaged_gzip_file(self, tmp_path: Path, kept_bytes: int) -> None:
        path = tmp_path / "prices.csv.gz"
        content = "".join(f"{i * math.pi}\n" for i in range(1000)).encode()
        path.write_bytes(gzip.compress(content)[:kept_bytes])
        with pytest.raises(CliError, match=r"Cannot read .*: (compressed|end of)"):
            prices_of(path)

    def test_a_pipe(self, tmp_path: Path) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_text, args=("1.5\n2.5\n",))
        writer.start()
        assert prices_of(path) == [1.5, 2.5]
        writer.join()


class TestParquet:
    def write(self, path: Path, **columns: pa.Array) -> Path:
        parquet.write_table(pa.table(columns), path, row_group_size=7)
        return path

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
    @given(st.lists(finite_floats, max_size=40))
    def test_every_float_arrives_bit_for_bit(self, tmp_path: Path, expected: list[float]) -> None:
        prices = pa.array(expected, pa.float64())
        path = self.write(tmp_path / "p", time=pa.array(range(len(expected))), price=prices)
        assert bits(prices_of(path)) == bits(expected)

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (pa.array([1, -2], pa.int64()), [1.0, -2.0]),
            (pa.array([0.1], pa.float32()), [struct.unpack("f", struct.pack("f", 0.1))[0]]),
            (pa.array([Decimal("1.10"), Decimal("0.30")]), [1.1, 0.3]),
        ],
    )
    def test_other_numbers(self, tmp_path: Path, values: pa.Array, expected: list[float]) -> None:
        assert bits(prices_of(self.write(tmp_path / "p", price=values))) == bits(expected)

    def test_columns_by_name_or_number(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "p", **{"a.b": pa.array([1.0]), "1": pa.array([2.0])})
        assert prices_of(path, "a.b") == [1.0]
        assert prices_of(path, "1") == [2.0], "a name has priority"
        assert prices_of(path, "2") == [2.0]
        assert prices_of(self.write(path, close=pa.array([3.0]))) == [3.0]

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            (pa.array([1.0, None]), "row 2, column 'price': the cell is empty."),
            (pa.array([1.0, math.nan]), "row 2, column 'price': 'nan' is not a finite number."),
            (pa.array([1.0] * 9 + [-math.inf]), "row 10, column 'price': '-inf' is not a finite"),
            (pa.array(["1.0"]), "column 'price': expected numbers, got String."),
            (pa.array([True]), "column 'price': expected numbers, got Boolean."),
            (pa.array([[1.0]]), "column 'price': expected numbers, got List(Float64)."),
        ],
    )
    def test_what_is_refused(self, tmp_path: Path, values: pa.Array, sentence: str) -> None:
        with pytest.raises(CliError) as caught:
            prices_of(self.write(tmp_path / "p", price=values))
        assert sentence in str(caught.value)

    def test_a_wrong_column_lists_them(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "p", bid=pa.array([1.0]), ask=pa.array([2.0]))
        with pytest.raises(CliError, match=r"no column 'price'; its columns are 1 'bid', 2 'ask'"):
            prices_of(path)

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        path = tmp_path / "p"
        path.write_bytes(EXAMPLE.read_bytes()[:5000])
        with pytest.raises(CliError, match="is not a sound Parquet file"):
            prices_of(path)

    def test_without_polars(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "polars", None)
        with pytest.raises(CliError, match=r"make install .* pip install .*\[files\]"):
            prices_of(EXAMPLE)

    def test_the_example(self) -> None:
        expected = parquet.read_table(EXAMPLE)["price"].to_pylist()
        assert len(expected) == 2001
        assert bits(prices_of(EXAMPLE)) == bits(expected)
