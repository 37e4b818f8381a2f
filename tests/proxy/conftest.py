"""One cache of prepared data for all tests of a session."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cache(_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder, for this process and those that it starts."""
    monkeypatch.setenv("LAUREL_CACHE", str(_cache))
    return _cache
