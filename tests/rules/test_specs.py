"""Which limits are in force: the strictest of the live ones, told ones, changes, reserves, ageing, notices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st
from tests.rules.support import ACCOUNT, NO_LIMITS, Case, limits, requests, slots, token_costs, tokens

from cross_instance.rules.operations import (
    DAY,
    MINUTE,
    SECOND,
    AccountSpec,
    Configure,
    Costs,
    Kind,
    Leave,
    LimitSpec,
    LimitState,
    Signals,
    Source,
    Told,
)
from cross_instance.rules.specs import in_force
from cross_instance.rules.tables import PUBLISHED, SPEC

SOURCES = (Source.CONFIGURED, Source.PRESET, Source.GUESS)


def force(case: Case, kind: Kind = Kind.REQUESTS, node: str = ACCOUNT) -> LimitState | None:
    return next((limit for limit in case.node(node).limits if limit.kind is kind), None)


def tell(case: Case, incarnation: int, seq: int, *told: Told, model: str = "model", group: str = "") -> None:
    """Let a response of a model state its limits."""
    case.granted(incarnation, seq, model=model, group=group)
    case.settle(incarnation, seq, signals=Signals(told=told))


specs = st.builds(
    LimitSpec,
    kind=st.just(Kind.REQUESTS),
    amount=st.integers(1, 50),
    burst=st.integers(1, 50),
    period=st.sampled_from((SECOND, MINUTE, DAY)),
    source=st.sampled_from(SOURCES),
)


@given(st.lists(specs, min_size=1, max_size=4), st.lists(specs, max_size=2))
def test_the_strictest_of_the_strongest_source_holds(published: list[LimitSpec], told: list[LimitSpec]) -> None:
    told = [LimitSpec(spec.kind, spec.amount, spec.burst, spec.period, Source.TOLD) for spec in told]
    (chosen,) = in_force(published, told)
    configured = [spec for spec in published if spec.source is Source.CONFIGURED]
    strongest = configured or told or published
    assert chosen.source in {spec.source for spec in strongest}
    assert all(chosen.amount * spec.period <= spec.amount * chosen.period for spec in strongest)
    assert chosen.burst == min(spec.burst for spec in strongest)


@given(st.lists(st.tuples(st.integers(1, 90), st.sampled_from((0, 1, MINUTE))), min_size=1, max_size=4))
def test_the_fewest_slots_hold_whatever_their_period_says(pairs: list[tuple[int, int]]) -> None:
    (chosen,) = in_force([LimitSpec(Kind.CONCURRENCY, amount, 0, period) for amount, period in pairs], [])
    assert chosen.amount == min(amount for amount, _ in pairs)


@pytest.mark.parametrize(("said", "holds"), [((9,), 9), ((9, 4), 4), ((30,), 20), ((), 20)])
def test_learned_slots_hold_where_they_are_fewer(said: tuple[int, ...], holds: int) -> None:
    others = [slots(20), slots(25)]
    (chosen,) = in_force([*others, *(slots(amount, Source.LEARNED) for amount in said)], [])
    assert (chosen.amount, chosen.source) == (holds, Source.CONFIGURED if holds == 20 else Source.LEARNED)


def test_learned_slots_hold_below_told_ones() -> None:
    told, seven, five = slots(6, Source.TOLD), slots(7, Source.LEARNED), slots(5, Source.LEARNED)
    assert [in_force([seven], of) for of in ([], [told])] == [[seven], [told]]
    assert in_force([five], [told]) == [five]


class TestSeveralInstances:
    def test_the_strictest_of_the_live_ones_holds(self) -> None:
        case = Case()
        case.join("wide", limits(requests(600, 100), slots(10)))
        narrow = case.join("narrow", limits(requests(60, 10), slots(2)))
        assert force(case) is not None
        assert [limit.amount for limit in case.node().limits] == [60, 2]
        case.run(Leave(narrow))
        assert [limit.amount for limit in case.node().limits] == [600, 10]

    def test_a_notice_names_both_origins(self) -> None:
        case = Case()
        case.join("one", limits(requests(600, 100), origin="a/config.json"))
        two = case.join("two", NO_LIMITS)
        (notice,) = case.configure(two, limits(requests(60, 10), origin="b/config.json")).notices
        assert notice.topic == "limits-conflict"
        assert all(part in notice.text for part in ("a/config.json", "b/config.json", "600", "60", "requests"))
        assert case.node().notices == (notice,), "and it stays visible"

    def test_it_names_a_file_that_a_live_instance_has_read(self) -> None:
        case = Case()
        gone = case.join("gone", limits(requests(600, 100), origin="gone/config.json"))
        case.join("stays", limits(requests(600, 100), origin="stays/config.json"))
        case.join("other", limits(requests(60, 10), origin="other/config.json"))
        case.run(Leave(gone))
        (notice,) = case.node().notices
        assert "gone" not in notice.text
        assert all(part in notice.text for part in ("600", "stays/config.json", "60", "other/config.json"))

    def test_who_changes_its_mind_leaves_the_others_their_limits(self) -> None:
        case = Case()
        strict, loose = limits(requests(60, 10)), limits(requests(600, 100))
        one, two = (case.join(name, strict) for name in ("one", "two"))
        case.configure(one, loose)
        assert force(case).amount == 60  # type: ignore[union-attr]
        case.configure(two, loose)
        assert force(case).amount == 600  # type: ignore[union-attr]
        case.configure(two, strict)
        assert force(case).amount == 60  # type: ignore[union-attr]

    def test_nothing_is_left_of_what_nobody_publishes(self) -> None:
        case = Case()
        specs = [limits(requests(60 + number, 10), origin=f"{number}.json") for number in range(3)]
        one, two = (case.join(name, specs[0]) for name in ("one", "two"))
        for spec in specs:
            case.configure(one, spec)
        for incarnation in (one, two):
            case.run(Leave(incarnation))
        tables = {key[:1] for key in case.tables.values}
        assert not tables & {PUBLISHED, SPEC}

    def test_the_same_figures_twice_are_no_conflict(self) -> None:
        case = Case()
        case.join("one", limits(requests(600, 100), origin="a"))
        two = case.join("two", NO_LIMITS)
        assert case.configure(two, limits(requests(600, 100), origin="b")).notices == ()

    def test_the_limits_of_the_last_one_stay_for_the_next(self) -> None:
        """Short scripts one after another: none of them gets a full bucket."""
        case = Case()
        one = case.join("one", limits(requests(60, 10)))
        assert case.count_granted(one) == 9
        case.run(Leave(one))
        assert case.count_granted(case.join("one", limits(requests(60, 10)))) == 0

    def test_a_limit_that_goes_and_comes_back_is_where_time_has_brought_it(self) -> None:
        case = Case()
        case.join("keeper", NO_LIMITS)
        total = 0
        for _ in range(5):
            one = case.join("one", limits(requests(60, 10)))
            total += case.count_granted(one)
            case.run(Leave(one))
            assert case.node().limits == ()
            case.wait(SECOND)
        assert total == 9 + 4

    def test_the_same_for_a_pattern(self) -> None:
        case = Case()
        spec = AccountSpec((), (("pattern", (requests(60, 10),)),))
        case.join("keeper", NO_LIMITS)
        total = 0
        for _ in range(3):
            one = case.join("one", spec)
            total += case.count_granted(one, group="pattern")
            case.run(Leave(one))
        assert total == 9

    def test_a_permit_of_a_former_life_returns_nothing_to_the_next(self) -> None:
        case = Case()
        with_tokens, without = limits(requests(600, 100), tokens(60)), limits(requests(600, 100))
        one = case.join("one", with_tokens)
        for seq in (1, 2):
            case.granted(one, seq, costs=token_costs(25))
        case.configure(one, without)
        case.wait(2 * MINUTE)
        case.configure(one, without)
        case.configure(one, with_tokens)
        for seq in (3, 4):
            case.granted(one, seq, costs=token_costs(29))
        for seq in (1, 2):
            case.settle(one, seq, usage=Costs())
        assert case.count_granted(one, costs=token_costs(25)) == 0


class TestRevisions:
    def test_patterns_of_all_live_instances_are_in_force(self) -> None:
        case = Case()
        one = case.join("one", AccountSpec((), (("gpt-*", (slots(3),)),)))
        two = case.join("two", NO_LIMITS)
        answer = case.configure(two, AccountSpec((), (("gpt-*", (slots(2),)), ("o1", (slots(1),)))))
        assert answer.patterns == ("gpt-*", "o1")
        assert force(case, Kind.CONCURRENCY, f"{ACCOUNT}#gpt-*").amount == 2  # type: ignore[union-attr]
        case.run(Leave(two))
        assert case.node().patterns == ("gpt-*",)
        assert case.revision() > answer.revision
        assert case.count_granted(one, group="gpt-*") == 3

    def test_figures_alone_make_no_new_revision(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(600, 100)))
        before = case.revision()
        assert case.configure(one, limits(requests(60, 10))).revision == before

    def test_an_unknown_group_is_an_error_and_no_way_around_a_limit(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(600, 100)))
        with pytest.raises(ValueError, match="none of the patterns"):
            case.acquire(one, 1, group="made-up")


class TestTold:
    TOLD = Told(Kind.REQUESTS, 600, remaining=4)

    def test_it_replaces_a_preset(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(100, 50, source=Source.PRESET)))
        tell(case, one, 1, self.TOLD)
        state = force(case)
        assert state is not None
        assert (state.amount, state.burst, state.source) == (600, 10, Source.TOLD)

    def test_it_never_replaces_what_the_user_configured(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(100, 50)))
        tell(case, one, 1, self.TOLD)
        state = force(case)
        assert state is not None
        assert (state.amount, state.source) == (100, Source.CONFIGURED)

    def test_configuring_it_later_wins(self) -> None:
        case = Case()
        one = case.join("one", NO_LIMITS)
        tell(case, one, 1, self.TOLD)
        case.configure(one, limits(requests(100, 50)))
        state = force(case)
        assert state is not None
        assert (state.amount, state.source) == (100, Source.CONFIGURED)

    def test_a_new_limit_starts_with_what_is_said_to_be_left(self) -> None:
        case = Case()
        one = case.join("one", NO_LIMITS)
        tell(case, one, 1, self.TOLD)
        assert case.count_granted(one) == 4

    def test_permits_from_before_return_nothing_to_it(self) -> None:
        case = Case()
        one = case.join("one", NO_LIMITS)
        for seq in range(2, 7):
            case.granted(one, seq, costs=token_costs(1_000))
        tell(case, one, 1, Told(Kind.TOKENS, 1_000, remaining=0))
        for seq in range(2, 7):
            case.settle(one, seq, usage=token_costs(10))
        state = force(case, Kind.TOKENS)
        assert state is not None
        assert state.available <= 0

    def test_repeating_it_changes_nothing(self) -> None:
        case = Case()
        one = case.join("one", NO_LIMITS)
        tell(case, one, 1, self.TOLD)
        case.wait(200_000)
        tell(case, one, 2, self.TOLD)
        assert case.count_granted(one) == 5, "four, two refilled, one taken by the second"

    def test_the_strictest_of_several_models_holds_for_their_account(self) -> None:
        case = Case()
        one = case.join("one", NO_LIMITS)
        tell(case, one, 1, Told(Kind.REQUESTS, 600), model="small")
        tell(case, one, 2, Told(Kind.REQUESTS, 60), model="large")
        tell(case, one, 3, Told(Kind.REQUESTS, 600), model="small")
        assert force(case).amount == 60  # type: ignore[union-attr]
        case.wait(MINUTE)
        tell(case, one, 4, Told(Kind.REQUESTS, 6_000), model="large")
        assert force(case).amount == 600  # type: ignore[union-attr]

    def test_a_model_with_its_own_group_tells_of_its_group(self) -> None:
        case = Case()
        one = case.join("one", AccountSpec((), (("gpt-*", ()),)))
        tell(case, one, 1, self.TOLD, model="gpt-4o", group="gpt-*")
        assert force(case) is None
        assert force(case, node=f"{ACCOUNT}#gpt-*").amount == 600  # type: ignore[union-attr]

    @pytest.mark.parametrize("told", [Told(Kind.REQUESTS, 0), Told(Kind.REQUESTS, -1), Told(Kind.TOKENS, 1 << 50)])
    def test_absurd_figures_are_not_believed(self, told: Told) -> None:
        case = Case()
        one = case.join("one", NO_LIMITS)
        tell(case, one, 1, told)
        assert case.node().limits == ()

    def test_no_header_can_keep_a_permit_from_being_settled(self) -> None:
        """Figures around the largest exact product, coprime with the period or not."""
        largest = (1 << 53) // MINUTE
        for seq, amount in enumerate(range(largest - 40, largest + 3), 1):
            case = Case()
            one = case.join("one", NO_LIMITS)
            tell(case, one, seq, Told(Kind.TOKENS, amount, remaining=1 << 52))
            assert case.permits() == {}


class TestReserves:
    def test_more_than_the_limit_is_scaled_down_and_said(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(60, 10)), reserve=45)
        two = case.join("two", NO_LIMITS)
        notices = case.configure(two, limits(requests(60, 10)), reserve=45).notices
        assert [notice.topic for notice in notices] == ["reserve-scaled"]
        assert "90" in notices[0].text
        assert {flow.incarnation: flow.reserve for flow in case.node().flows} == {one: 30, two: 30}

    def test_they_grow_back_when_others_leave(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(60, 10)), reserve=45)
        two = case.join("two", limits(requests(60, 10)), reserve=45)
        case.run(Leave(two))
        assert {flow.incarnation: flow.reserve for flow in case.node().flows} == {one: 45}

    def test_without_a_limit_they_stand(self) -> None:
        case = Case()
        one = case.join("one", NO_LIMITS, reserve=45)
        assert {flow.incarnation: flow.reserve for flow in case.node().flows} == {one: 45}


def _bad(**fields: object) -> Callable[[int], Configure]:
    return lambda incarnation: Configure(
        incarnation,
        **{"account": ACCOUNT, "spec": NO_LIMITS, **fields},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "bad",
    [
        _bad(spec=limits(requests(0, 10))),
        _bad(spec=limits(requests(10, -1))),
        _bad(spec=limits(tokens(1 << 52))),
        _bad(spec=AccountSpec((), (("pattern", (slots(0),)),))),
        _bad(spec=AccountSpec((), (("", ()),))),
        _bad(weight=0),
        _bad(weight=-1),
        _bad(reserve=-1),
        _bad(account="a#b"),
        _bad(account="a\0b"),
        _bad(account="x" * 201),
        _bad(account="", reserve=1),
    ],
)
def test_what_cannot_be_stored_is_refused_and_nothing_changes(bad: Callable[[int], Configure]) -> None:
    case = Case()
    one = case.join("one", limits(requests(600, 100)))
    before = dict(case.tables.values)
    with pytest.raises(ValueError, match=r"\w"):
        case.run(bad(one))
    assert case.tables.values == before
    case.join("two", limits(requests(600, 100)))


def test_a_changed_limit_wakes_whom_it_lets_through() -> None:
    case = Case()
    one = case.join("one", limits(slots(1)))
    case.granted(one, 1)
    for seq in (2, 3, 4):
        case.waiting(one, seq)
    case.configure(one, limits(slots(3)))
    assert case.offered() == [(one, 2), (one, 3)]


def test_a_raised_limit_admits_no_more_than_its_own_refill() -> None:
    case = Case()
    one = case.join("one", limits(requests(60, 10)))
    assert case.count_granted(one) == 9
    case.configure(one, limits(requests(600, 100)))
    assert case.count_granted(one) == 0
    case.wait(SECOND)
    assert case.count_granted(one) == 10
