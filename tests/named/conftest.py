"""How often an instance looks at what the others do."""

from __future__ import annotations

import pytest

from cross_instance.watching import activity, shared_sights


@pytest.fixture
def looks_that_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a busy machine lets a look take, the next one is not put off for it."""
    monkeypatch.setattr(shared_sights, "LOOKS", 0)


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch, looks_that_last: None) -> None:
    """A look every 50 ms instead of every second."""
    monkeypatch.setattr(activity, "EVERY", 0.05)
    monkeypatch.setattr(activity, "READ_EVERY", 0.02)
    monkeypatch.setattr(shared_sights, "EVERY", 0.04)
