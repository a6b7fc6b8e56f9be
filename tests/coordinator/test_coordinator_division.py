"""Shares: they add up, nobody gets more than it wants, and what one leaves goes to the others."""

from __future__ import annotations

from hypothesis import given, strategies as st

from cross_instance.coordinator.division import equal_share, shares_by_demand

demands = st.lists(st.integers(0, 40), min_size=1, max_size=12)


@given(st.integers(1, 200), st.integers(1, 40))
def test_equal_shares_add_up_and_the_first_get_the_rest(total: int, among: int) -> None:
    shares = [equal_share(total, among, place) for place in range(among)]
    assert sum(shares) == max(total, among)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] - shares[-1] <= 1


def one_by_one(total: int, demands: list[int]) -> list[int]:
    """The same by its definition: each slot goes to whoever wants more and has least, the first to join first."""
    given = [0] * len(demands)
    for _ in range(total):
        wanting = [place for place, demand in enumerate(demands) if given[place] < demand]
        if wanting:
            given[min(wanting, key=lambda place: given[place])] += 1
    return [max(1, share) if demand else 0 for share, demand in zip(given, demands, strict=True)]


@given(st.integers(1, 120), demands)
def test_shares_by_demand_are_max_min_fair(total: int, demands: list[int]) -> None:
    assert shares_by_demand(total, demands) == one_by_one(total, demands)


@given(st.integers(1, 120), demands)
def test_shares_by_demand_waste_nothing(total: int, demands: list[int]) -> None:
    working = sum(demand > 0 for demand in demands)
    assert sum(shares_by_demand(total, demands)) == max(working, min(total, sum(demands)))


def test_what_one_leaves_goes_to_the_others() -> None:
    assert shares_by_demand(6, [1, 9, 9]) == [1, 3, 2]
    assert shares_by_demand(6, [0, 9, 2]) == [0, 4, 2]
    assert shares_by_demand(2, [5, 5, 5]) == [1, 1, 1]
