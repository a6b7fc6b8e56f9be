"""The first laws, told of what the book saw; each function is one law."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.rules.book import numbers_in, path_of

from cross_instance.rules.limits import EXACT
from cross_instance.rules.operations import Kind
from cross_instance.rules.records import State

if TYPE_CHECKING:
    from tests.rules.book import Book

    from cross_instance.testing import DictTables


def law_1(book: Book) -> None:
    """All or nothing: every node counts exactly the permits whose path leads through it."""
    for name, node in book.nodes.items():
        assert node.waiting == book.waiting(name), name
        if "#" not in name or name.partition("#")[2]:
            assert node.held == book.held(name), name


def law_2(book: Book) -> None:
    """Never over-admit, whatever the interval: buckets, windows and slots."""
    for (name, kind), history in book.histories.items():
        assert history.excess() <= 0, (name, kind, history)
    for granted in book.granted:
        for name in path_of(book.permits[granted]):
            for limit in book.nodes[name].limits:
                if limit.kind is Kind.CONCURRENCY:
                    assert book.held(name) <= limit.amount, name


def law_3(book: Book) -> None:
    """Order: nobody is granted before an older waiter of its instance and class in its group."""
    for granted in book.granted:
        permit = book.permits[granted]
        for name, other in book.permits.items():
            if other.state is State.WAITING and name[0] == granted[0] and name not in book.returned:
                same = (other.account, other.group, other.rank) == (permit.account, permit.group, permit.rank)
                older = (other.arrival, name[1]) < (permit.arrival, granted[1])
                assert not (same and older), (granted, name)


def integers_only(tables: DictTables) -> None:
    """No float is ever stored, and no integer that a double cannot hold."""
    for number in numbers_in(tables):
        assert isinstance(number, int), number
        assert abs(number) < EXACT, number
