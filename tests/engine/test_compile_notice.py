"""A notice is given once, before the first kernel is compiled, and never without compilation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from numba import njit

from financial_data_service.engine.compile_notice import SENTENCE, announce_compilation


def kernel() -> Any:
    """One that has not been compiled."""
    return njit(lambda x: x + 1)


def test_it_is_told_of_before_the_first_of_many() -> None:
    one, other = kernel(), kernel()
    said: list[str] = []

    def say(sentence: str) -> None:
        assert not one.signatures
        said.append(sentence)

    with announce_compilation(say):
        assert said == []
        assert one(1) == 2
        assert other(1) == 2
        assert one(1.5) == 2.5
    assert said == [SENTENCE]


def test_what_is_compiled_already_or_elsewhere_is_nothing_to_tell() -> None:
    compiled = kernel()
    compiled(1)
    with announce_compilation(pytest.fail):
        compiled(2)
    kernel()(1)


def test_what_comes_from_the_cache_is_nothing_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kernels.py"
    path.write_text("from numba import njit\n\n@njit(cache=True)\ndef add(x):\n    return x + 1\n")
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path / "cache"))

    def loaded() -> Any:
        names: dict[str, Any] = {"__name__": "kernels", "__file__": str(path)}
        exec(compile(path.read_text(), str(path), "exec"), names)
        return names["add"]

    said: list[str] = []
    for _ in range(2):
        with announce_compilation(said.append):
            assert loaded()(1) == 2
    assert said == [SENTENCE]
