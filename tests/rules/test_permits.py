"""Laws 1 and 7: a permit takes from every limit on its path or from none, and ends in exactly one way."""

from __future__ import annotations

import pytest
from tests.rules.support import ACCOUNT, NO_LIMITS, Case, limits, requests, slots, token_costs, tokens

from cross_instance.rules.operations import (
    SECOND,
    AccountSpec,
    Configure,
    Costs,
    Fenced,
    Granted,
    Kind,
    LimitSpec,
    Outcome,
    Refused,
    Source,
    Stale,
)
from cross_instance.rules.records import State

ALL_KINDS = limits(
    requests(600, 100),
    LimitSpec(Kind.REQUESTS_DAY, 1_000, 1_000, 86_400 * SECOND),
    tokens(60_000),
    LimitSpec(Kind.INPUT_TOKENS, 50_000, 50_000),
    LimitSpec(Kind.OUTPUT_TOKENS, 10_000, 10_000),
    slots(5),
)
COSTS = Costs(requests=1, tokens=1_000, input_tokens=700, output_tokens=300)


def available(case: Case, node: str = ACCOUNT) -> dict[Kind, int]:
    return {limit.kind: limit.available for limit in case.node(node).limits}


def taken(case: Case, before: dict[Kind, int], node: str = ACCOUNT) -> dict[Kind, int]:
    return {kind: before[kind] - left for kind, left in available(case, node).items()}


class TestLaw1:
    def test_a_grant_takes_of_every_kind_at_every_node_of_its_path(self) -> None:
        case = Case()
        one = case.join("one", AccountSpec(ALL_KINDS.limits, (("group", ALL_KINDS.limits),)))
        case.run(Configure(one, "", ALL_KINDS))
        nodes = (ACCOUNT, f"{ACCOUNT}#group", "")
        before = {node: available(case, node) for node in nodes}
        case.granted(one, 1, group="group", costs=COSTS)
        for node in nodes:
            assert taken(case, before[node], node) == {
                Kind.REQUESTS: 1,
                Kind.REQUESTS_DAY: 1,
                Kind.TOKENS: 1_000,
                Kind.INPUT_TOKENS: 700,
                Kind.OUTPUT_TOKENS: 300,
                Kind.CONCURRENCY: 1,
            }, node

    @pytest.mark.parametrize("blocked", ["group", "account", "cluster"])
    def test_what_does_not_fit_somewhere_takes_nowhere(self, blocked: str) -> None:
        case = Case()
        sets = {
            place: (requests(600, 100), slots(1 if place == blocked else 5))
            for place in ("group", "account", "cluster")
        }
        one = case.join("one", AccountSpec(sets["account"], (("group", sets["group"]),)))
        case.run(Configure(one, "", limits(*sets["cluster"])))
        case.granted(one, 1, group="group")
        nodes = (ACCOUNT, f"{ACCOUNT}#group", "")
        before = {node: available(case, node) for node in nodes}
        case.waiting(one, 2, group="group")
        assert {node: available(case, node) for node in nodes} == before

    def test_each_limit_of_two_accounts_and_models_holds_on_its_own(self) -> None:
        case = Case()
        spec = AccountSpec((slots(3),), (("large", (slots(1),)), ("small", (slots(2),))))
        one = case.join("one", spec)
        case.configure(one, limits(slots(2)), "second")
        case.run(Configure(one, "", limits(slots(4))))
        assert case.count_granted(one, group="large") == 1
        assert case.count_granted(one, group="small") == 2
        assert case.count_granted(one) == 0, "the account is full"
        assert case.count_granted(one, account="second") == 1, "and so is the cluster"


class TestSettle:
    def settled(self, outcome: Outcome, usage: Costs | None, spec: AccountSpec = ALL_KINDS) -> dict[Kind, int]:
        """What stays charged after one request of `COSTS` ended so."""
        case = Case()
        one = case.join("one", spec)
        before = available(case)
        case.granted(one, 1, costs=COSTS)
        assert case.settle(one, 1, outcome, usage=usage).known
        assert case.permits() == {}
        return taken(case, before)

    def test_less_is_returned(self) -> None:
        left = self.settled(Outcome.SUCCESS, Costs(1, 600, 500, 100))
        assert (left[Kind.TOKENS], left[Kind.INPUT_TOKENS], left[Kind.OUTPUT_TOKENS]) == (600, 500, 100)
        assert (left[Kind.REQUESTS], left[Kind.CONCURRENCY]) == (1, 0)

    def test_more_is_owed(self) -> None:
        left = self.settled(Outcome.SUCCESS, Costs(1, 90_000, 800, 89_200))
        assert (left[Kind.TOKENS], left[Kind.OUTPUT_TOKENS]) == (90_000, 89_200)

    def test_unknown_usage_leaves_the_charge(self) -> None:
        left = self.settled(Outcome.SUCCESS, None)
        assert (left[Kind.TOKENS], left[Kind.REQUESTS], left[Kind.CONCURRENCY]) == (1_000, 1, 0)

    @pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.ERROR, Outcome.OVERLOADED])
    def test_a_failed_request_stays_charged(self, outcome: Outcome) -> None:
        left = self.settled(outcome, None)
        assert (left[Kind.TOKENS], left[Kind.REQUESTS], left[Kind.CONCURRENCY]) == (1_000, 1, 0)

    def test_what_was_never_sent_costs_nothing(self) -> None:
        assert set(self.settled(Outcome.IGNORED, None).values()) == {0}

    def test_a_provider_that_does_not_correct_keeps_the_charge(self) -> None:
        spec = limits(tokens(60_000, correct=False))
        assert self.settled(Outcome.SUCCESS, Costs(1, 10), spec)[Kind.TOKENS] == 1_000

    def test_a_rejected_request_is_returned_where_the_provider_does_so(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(600, 100, refund=True), tokens(60_000, refund=False)))
        before = available(case)
        case.granted(one, 1, costs=COSTS)
        case.settle(one, 1, Outcome.REJECTED)
        left = taken(case, before)
        assert left[Kind.TOKENS] == 1_000
        assert left[Kind.REQUESTS] == before[Kind.REQUESTS] - 1, "the overload drained it to a single request"

    def test_a_permit_ends_once(self) -> None:
        case = Case()
        one = case.join("one", ALL_KINDS)
        case.granted(one, 1, costs=COSTS)
        case.settle(one, 1, usage=Costs(tokens=1))
        before = available(case)
        assert not case.settle(one, 1, usage=Costs(tokens=1)).known
        assert case.cancel(one, 1).was == "unknown"
        assert available(case) == before

    def test_what_waits_cannot_be_settled(self) -> None:
        case = Case()
        one = case.join("one", limits(slots(1)))
        case.granted(one, 1)
        case.waiting(one, 2)
        assert not case.settle(one, 2).known
        assert case.node().waiting == 1

    def test_an_offer_may_be_settled_before_it_was_seen(self) -> None:
        case = Case()
        one = case.join("one", limits(slots(1)))
        case.granted(one, 1)
        case.waiting(one, 2)
        case.settle(one, 1)
        assert case.settle(one, 2, Outcome.IGNORED).known
        assert case.node().held == 0

    def test_law_7_what_was_charged_less_what_was_corrected_is_what_was_used(self) -> None:
        """Many requests, wrong estimates in both directions: the level says exactly what was used."""
        case = Case()
        one = case.join("one", limits(tokens(60_000, correct=True)))
        full = available(case)[Kind.TOKENS]
        for seq in range(1, 31):
            case.granted(one, seq, costs=token_costs(seq * 40))
        used = 0
        for seq in range(30, 0, -1):
            usage = (seq * 7_919) % 1_500
            used += usage
            case.settle(one, seq, usage=token_costs(usage))
        assert available(case)[Kind.TOKENS] == full - used


class TestRepeats:
    """Every operation may be sent twice; the second copy changes nothing and says the same."""

    def test_a_grant(self) -> None:
        case = Case()
        one = case.join("one", ALL_KINDS)
        first = case.granted(one, 1, costs=COSTS)
        before = dict(case.tables.values)
        assert case.granted(one, 1, costs=COSTS).epochs == first.epochs
        assert case.tables.values == before

    def test_a_wait(self) -> None:
        case = Case()
        one = case.join("one", limits(slots(1)))
        case.granted(one, 1)
        first = case.waiting(one, 2)
        before = dict(case.tables.values)
        assert case.waiting(one, 2) == first
        assert case.tables.values == before

    def test_a_cancelled_grant(self) -> None:
        case = Case()
        one = case.join("one", ALL_KINDS)
        before = available(case)
        case.granted(one, 1, costs=COSTS)
        assert case.cancel(one, 1).was == "granted"
        assert available(case) == before
        assert case.cancel(one, 1).was == "unknown"
        assert available(case) == before

    def test_what_could_never_have_happened(self) -> None:
        case = Case()
        one = case.join("one", ALL_KINDS)
        assert not case.settle(one, 77).known
        assert case.cancel(one, 77).was == "unknown"
        assert not case.settle(one + 1, 77).known


class TestTooLarge:
    def test_it_is_refused_with_its_figures(self) -> None:
        case = Case()
        one = case.join("one", limits(tokens(600, 100)))
        refused = case.acquire(one, 1, costs=token_costs(101))
        assert isinstance(refused, Refused)
        assert (refused.reason, refused.needed) == ("too_large", 101)
        assert refused.limit is not None
        assert (refused.limit.kind, refused.limit.burst) == (Kind.TOKENS, 100)
        assert case.permits() == {}

    def test_exactly_the_burst_is_accepted_in_spite_of_the_guard(self) -> None:
        case = Case()
        one = case.join("one", limits(tokens(600, 100)))
        case.granted(one, 1, costs=token_costs(100))
        assert case.node().limits[0].available == -1

    def test_against_a_guess_it_takes_the_whole_bucket_and_owes_the_rest(self) -> None:
        case = Case()
        one = case.join("one", limits(tokens(600, 100, source=Source.GUESS)))
        case.granted(one, 1, costs=token_costs(1_000))
        assert case.node().limits[0].available == 99 - 1_000
        assert case.waiting(one, 2, costs=token_costs(1)).not_before == case.now + 90_200_000


class TestFences:
    def test_who_is_gone_can_do_nothing_any_more(self) -> None:
        case = Case()
        one = case.join("one", ALL_KINDS)
        case.granted(one, 1)
        case.sweep(one)
        assert isinstance(case.acquire(one, 2), Fenced)
        assert isinstance(case.acquire(one, 1), Fenced)
        assert not case.settle(one, 1).known

    def test_who_has_not_published_is_told_to(self) -> None:
        case = Case()
        one = case.join("one", spec=None)
        answer = case.acquire(one, 1)
        assert isinstance(answer, Stale)
        assert answer.revision == 0

    def test_who_resolved_against_an_older_configuration_is_told_the_patterns(self) -> None:
        case = Case()
        one = case.join("one", NO_LIMITS)
        case.configure(one, AccountSpec((), (("gpt-*", ()), ("o*", ()))))
        answer = case.acquire(one, 1, revision=1)
        assert isinstance(answer, Stale)
        assert (answer.revision, answer.patterns) == (2, ("gpt-*", "o*"))
        assert isinstance(case.acquire(one, 1, revision=2, group="gpt-*"), Granted)

    def test_a_stale_task_buys_nothing(self) -> None:
        case = Case()
        one = case.join("one", NO_LIMITS)
        refused = case.acquire(one, 1, task="task", task_epoch=3)
        assert isinstance(refused, Refused)
        assert refused.reason == "stale_task"

    def test_a_held_permit_lives_as_long_as_its_instance(self) -> None:
        case = Case()
        one = case.join("one", NO_LIMITS, timeout=365 * 86_400 * SECOND)
        case.granted(one, 1)
        case.wait(300 * 86_400 * SECOND)
        case.sweep()
        permit = case.permit(one, 1)
        assert permit is not None
        assert permit.state is State.HELD
        assert case.settle(one, 1).known


def test_waited_says_how_long() -> None:
    case = Case()
    one = case.join("one", limits(slots(1)))
    assert case.granted(one, 1).waited == 0
    case.waiting(one, 2)
    case.wait(1_234)
    case.settle(one, 1)
    assert case.granted(one, 2).waited == 1_234
