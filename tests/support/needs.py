"""What a test does for want of something: CI may not pass without having run it."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def must() -> bool:
    """Whether every test has to run."""
    return os.environ.get("CI") == "true"


def missing(why: str) -> NoReturn:
    """Skips the test; fails it with CI=true. `why` says what is missing and what to do."""
    if must():
        pytest.fail(why)
    pytest.skip(why)
