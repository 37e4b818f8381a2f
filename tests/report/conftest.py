"""Fixtures of the report's tests; `made.py` makes their records."""

import pytest

from tests.report.made import everything


@pytest.fixture
def made(tmp_path):
    """A folder with a study, a count and two profiles of one model."""
    return everything(tmp_path)
