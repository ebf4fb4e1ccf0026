"""A spool returns what was put in, forwards and turned round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from financial_data_service.cli.price_files import spool as module
from financial_data_service.cli.price_files.spool import Spool


@pytest.fixture
def spool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    monkeypatch.setattr(module, "_BLOCK_PRICES", 8)
    with ExitStack() as stack:
        yield Spool(stack)


@pytest.mark.parametrize("size", [1, 3, 8, 100])
@pytest.mark.parametrize("start", [0, 5, 50])
def test_batches(spool: Spool, size: int, start: int) -> None:
    expected = np.arange(50.0)
    for part in np.array_split(expected, 7):
        spool.append(part)
    batches = list(spool.batches(start, size))
    assert all(len(batch) == size for batch in batches[:-1])
    assert np.concatenate([np.empty(0), *batches]).tolist() == expected[start:].tolist()
    assert len(spool) == 50


@pytest.mark.parametrize("count", range(40))
def test_reverse(spool: Spool, count: int) -> None:
    spool.append(np.array([-1.0, -2.0]))
    spool.append(np.arange(float(count)))
    spool.reverse(2)
    spool.append(np.array([99.0]))
    expected = [-1.0, -2.0, *np.arange(float(count))[::-1], 99.0]
    assert spool.read(0, 1000).tolist() == expected
