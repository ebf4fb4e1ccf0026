"""The package's public names: what ``import``, ``from … import *`` and tab completion give."""

from __future__ import annotations

import subprocess
import sys

import pytest

import financial_data_service
from financial_data_service import client


@pytest.mark.parametrize("module", [financial_data_service, client])
def test_every_public_name_is_there_and_is_listed(module: object) -> None:
    for name in module.__all__:  # type: ignore[attr-defined]
        assert getattr(module, name) is not None
        assert name in dir(module)
    with pytest.raises(AttributeError, match="has no attribute 'nowhere'"):
        module.nowhere  # type: ignore[attr-defined]  # noqa: B018


def test_names_that_load_later_are_listed_without_being_loaded() -> None:
    code = (
        "import sys, financial_data_service as fds\n"
        "assert {'Client', 'RunningStats', 'open'} <= set(dir(fds))\n"
        "heavy = {'numba', 'numpy', 'httpx', 'fastapi'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_a_star_import_leaves_the_builtin_open_alone() -> None:
    assert "open" not in financial_data_service.__all__
    assert callable(financial_data_service.open)
    names: dict[str, object] = {}
    exec("from financial_data_service import *", names)
    assert "open" not in names
    assert {"Client", "RunningStats", "DataDirectory"} <= names.keys()
