"""What the state machine draws: limits small enough to be met often, costs, timeouts, spans of time."""

from __future__ import annotations

from hypothesis import strategies as st

from cross_instance.rules.operations import (
    DAY,
    FOREVER,
    MINUTE,
    SECOND,
    AccountSpec,
    Costs,
    Kind,
    Learning,
    LimitSpec,
    Source,
    Told,
)
from cross_instance.testing.clock import START_OF_2026

ACCOUNTS = ("a", "b")
MODELS = ("m-large", "m-small", "other")
BUCKET_KINDS = (Kind.REQUESTS, Kind.TOKENS, Kind.INPUT_TOKENS)

amounts = st.sampled_from((1, 2, 3, 7, 60, 100))
buckets = st.builds(
    LimitSpec,
    kind=st.sampled_from(BUCKET_KINDS),
    amount=amounts,
    burst=st.integers(1, 6),
    period=st.sampled_from((SECOND, 7 * SECOND, MINUTE)),
    source=st.sampled_from((Source.CONFIGURED, Source.PRESET, Source.GUESS)),
    correct=st.booleans(),
    refund=st.booleans(),
)
windows = st.builds(
    LimitSpec,
    kind=st.just(Kind.REQUESTS_DAY),
    amount=st.integers(1, 8),
    burst=st.just(8),
    period=st.just(20 * SECOND),
    anchor=st.just(START_OF_2026 - 7 * SECOND),
)
slot_limits = st.builds(LimitSpec, kind=st.just(Kind.CONCURRENCY), amount=st.integers(1, 3), period=st.just(0))
limit_sets = st.lists(st.one_of(buckets, windows, slot_limits), max_size=3, unique_by=lambda spec: spec.kind).map(tuple)
groups = st.dictionaries(st.sampled_from(("m-*", "m-large")), limit_sets, max_size=2).map(lambda g: tuple(g.items()))
learnings = st.none() | st.builds(
    Learning,
    simple=st.booleans(),
    lowest=st.sampled_from((1_000, 5_000)),
    highest=st.sampled_from((50_000, 1_000_000_000_000)),
    predicts=st.booleans(),
)
specs = st.builds(
    AccountSpec, limits=limit_sets, groups=groups, ageing=st.sampled_from((0, 0, SECOND)), learning=learnings
)
cluster_specs = st.builds(AccountSpec, limits=st.lists(slot_limits, min_size=1, max_size=1).map(tuple))
costs = st.builds(
    Costs, requests=st.sampled_from((1, 1, 1, 2)), tokens=st.integers(0, 5), input_tokens=st.integers(0, 4)
)
timeouts = st.sampled_from((FOREVER, FOREVER, 0, 1, 300_000, 5 * SECOND, 90 * SECOND))
spans = st.one_of(
    st.sampled_from((1, 999, 250_000, 250_001, SECOND, 30 * SECOND, MINUTE, 3 * DAY)), st.integers(1, 40 * SECOND)
)
index = st.integers(0, 1_000)
told_limits = st.builds(Told, st.sampled_from(BUCKET_KINDS), st.integers(1, 50), st.none() | st.integers(0, 5))
