"""A clock that stands still until it is moved."""

from __future__ import annotations

from cross_instance.rules.operations import Instant

START_OF_2026 = 1_767_225_600_000_000
"""2026-01-01 00:00 UTC, in µs of Unix time."""


class FakeClock:
    """Both of a store's clocks, moved by hand; `mono` and `wall` in µs."""

    def __init__(self, mono: int = 1_000_000, wall: int = START_OF_2026) -> None:
        self.mono = mono
        self.wall = wall

    def __call__(self) -> Instant:
        """The present instant."""
        return Instant(self.mono, self.wall)

    def advance(self, us: int) -> None:
        """Let `us` microseconds pass. Raises `ValueError` for a negative time: store clocks never run backwards."""
        if us < 0:
            raise ValueError(f"a store's clock never runs backwards, not even by {-us} µs")
        self.mono += us
        self.wall += us
