"""How often an instance looks at what the others do."""

from __future__ import annotations

import pytest

from cross_instance import activity, shared_sights


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look every 50 ms instead of every second; however long a busy machine lets it take, the next is not put off."""
    monkeypatch.setattr(activity, "EVERY", 0.05)
    monkeypatch.setattr(activity, "READ_EVERY", 0.02)
    monkeypatch.setattr(shared_sights, "EVERY", 0.04)
    monkeypatch.setattr(shared_sights, "LOOKS", 0)
