"""Before anything is served: garbage collection pauses, and goes on in any case."""

from __future__ import annotations

import gc

import pytest

from financial_data_service.server.processes.startup import gc_paused, resume_gc


def test_garbage_is_collected_once_it_serves_or_has_failed_to() -> None:
    with gc_paused():
        assert not gc.isenabled()
        resume_gc()
        try:
            assert gc.isenabled()
            assert gc.get_freeze_count() > 0
        finally:
            gc.unfreeze()
    with pytest.raises(OSError, match="no"), gc_paused():
        raise OSError("no")
    assert gc.isenabled()
