"""What can be seen: everything, at one instant, in a fixed order, without changing anything."""

from __future__ import annotations

from tests.rules.support import ACCOUNT, Case, limits, requests, slots

from cross_instance.rules.operations import SECOND, AccountSpec, Configure, Leave, Snapshot


def test_it_changes_nothing() -> None:
    case = Case()
    one = case.join("one", limits(requests(60, 10), slots(1)))
    case.granted(one, 1)
    case.waiting(one, 2)
    case.wait(90 * SECOND)
    before = dict(case.tables.values)
    case.run(Snapshot())
    assert case.tables.values == before


def test_it_tells_who_holds_and_who_waits() -> None:
    case = Case()
    one, two = (case.join(name, limits(slots(2))) for name in ("one", "two"))
    case.granted(one, 1)
    case.granted(one, 2)
    for seq in (1, 2, 3):
        case.waiting(two, seq)
    seen = {state.instance_id: (state.held, state.waiting) for state in case.run(Snapshot()).instances}
    assert seen == {"one": (2, 0), "two": (0, 3)}
    assert (case.node().held, case.node().waiting) == (2, 3)
    assert case.node().limits[0].available == 0


def test_its_order_is_fixed() -> None:
    case = Case()
    for name in ("b", "a"):
        case.join(name, limits(slots(2), requests(60, 10)), account=f"account {name}")
    one = case.join("c", limits(slots(2)), account="account c")
    case.run(Configure(one, "", limits(slots(9))))
    case.configure(one, AccountSpec((), (("z", ()), ("y", (slots(1),)))))
    world = case.run(Snapshot())
    assert [state.instance_id for state in world.instances] == ["b", "a", "c"], "in the order of joining"
    names = [node.node for node in world.nodes]
    assert names == sorted(names)
    kinds = [limit.kind for limit in case.node("account b").limits]
    assert [kind.value for kind in kinds] == ["requests", "concurrency"]


def test_levels_are_those_of_the_present() -> None:
    case = Case()
    one = case.join("one", limits(requests(60, 10)))
    assert case.count_granted(one) == 9
    case.wait(3 * SECOND + 1)
    assert case.node().limits[0].available == 3


class TestUsage:
    def test_grants_of_the_last_sixty_seconds_count(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(6_000, 100)))
        for _ in range(4):
            case.count_granted(one, most=5)
            case.wait(20 * SECOND)
        (flow,) = case.node().flows
        assert flow.used == 10, "those of 20 and 40 s ago; at 60 s one slot has gone"
        assert case.node().used == 10
        case.wait(60 * SECOND)
        assert case.node().used == 0

    def test_what_was_given_back_unused_does_not(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(6_000, 100)))
        case.granted(one, 1)
        case.granted(one, 2)
        case.cancel(one, 1)
        assert case.node().used == 1

    def test_those_of_instances_that_left_still_count_for_the_account(self) -> None:
        case = Case()
        keeper = case.join("keeper", limits(requests(6_000, 100)))
        case.count_granted(keeper, most=3)
        for name in ("one", "two"):
            one = case.join(name, limits(requests(6_000, 100)))
            case.count_granted(one, most=5)
            case.wait(10 * SECOND)
            case.run(Leave(one))
        node = case.node()
        assert node.used == 13
        assert sum(flow.used for flow in node.flows) == 3
        case.wait(60 * SECOND)
        assert case.node().used == 0

    def test_cancelling_long_after_takes_nothing_from_others_grants(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(6_000, 100)))
        case.granted(one, 1)
        case.wait(120 * SECOND)
        case.granted(one, 2)
        case.cancel(one, 1)
        assert case.node().used == 1


def test_a_pause_is_shown_while_it_lasts() -> None:
    case = Case()
    one = case.join("one", limits(slots(1)))
    case.granted(one, 1)
    case.reject(one, 1, retry_after=SECOND)
    assert case.node().paused_until == case.now + SECOND
    case.wait(SECOND)
    assert case.node().paused_until == 0


def test_weights_and_reserves_are_shown_by_instance() -> None:
    case = Case()
    case.join("one", limits(requests(600, 10)), weight=3, reserve=60)
    case.join("two", limits(requests(600, 10)))
    assert [(flow.weight, flow.reserve) for flow in case.node(ACCOUNT).flows] == [(3, 60), (1, 0)]
