"""The temporary directory of workers: where it is, and what of others is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from financial_data_service.server.processes import temporary_directory
from financial_data_service.settings import Settings
from financial_data_service.storage import directory_lock


class TestTemporaryDirectory:
    @pytest.fixture(autouse=True)
    def _places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shared, self.default = tmp_path / "shm", tmp_path / "tmp"
        self.shared.mkdir()
        self.default.mkdir()
        monkeypatch.setattr(temporary_directory, "SHARED_MEMORY", self.shared)
        monkeypatch.setattr("tempfile.tempdir", str(self.default))

    def test_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        light = Settings(largest_window=1000, max_symbols=1)
        with temporary_directory.TemporaryDirectory(light) as there:
            assert there.path.parent == self.shared
        for settings in (Settings(max_symbols=10**9), light):
            with temporary_directory.TemporaryDirectory(settings) as there:
                assert there.path.parent == self.default
                assert there.path.stat().st_mode & 0o777 == 0o700
            assert not there.path.exists()
            monkeypatch.setattr(temporary_directory, "SHARED_MEMORY", self.shared / "nowhere")

    def test_only_what_is_marked_and_in_nobodys_use_is_removed(self, tmp_path: Path) -> None:
        left, elsewhere = self.shared / "fds-left", self.default / "fds-left"
        own, other = self.default / "fds-prices", self.shared / "else"
        for path in (left, elsewhere, other):
            path.mkdir()
            (path / temporary_directory.MARK).touch()
        own.mkdir()
        (own / "S.ring").touch()
        link = self.default / "fds-link"
        link.symlink_to(other)
        (self.default / "fds-file").touch()
        with temporary_directory.TemporaryDirectory(Settings(largest_window=1000)) as used:
            assert left.exists()
            temporary_directory.remove_stale()
            assert not left.exists()
            assert not elsewhere.exists()
            assert used.path.exists()
        assert (own / "S.ring").exists()
        assert other.exists()
        assert link.is_symlink()

    def test_it_speaks_of_the_same_file_as_the_store(self) -> None:
        assert temporary_directory.SETTINGS_FILE == directory_lock.SETTINGS_FILE
