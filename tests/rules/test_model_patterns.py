import pytest
from hypothesis import given, strategies as st

from cross_instance.rules.patterns import matches, most_specific


@pytest.mark.parametrize(
    ("pattern", "model"),
    [
        ("gpt-4o", "gpt-4o"),
        ("GPT-4o", "gpt-4O"),
        ("claude-sonnet-4", "claude-sonnet-4-20250514"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("gpt-*", "gpt-4o"),
        ("*", "anything"),
        ("gpt-?o", "gpt-4o"),
        ("models/[a].b", "models/[a].b"),
        ("a**c", "abc"),
        ("*.5-pro", "gemini-2.5-pro"),
    ],
)
def test_a_pattern_means(pattern: str, model: str) -> None:
    assert matches(pattern, model)


@pytest.mark.parametrize(
    ("pattern", "model"),
    [
        ("gpt-4o", "gpt-4"[1:]),
        ("gpt-?", "gpt-4o"),
        ("*-mini", "gpt-4o"),
        ("a.c", "abc"),
        ("[ab]", "a"),
        ("", "gpt-4o"),
        ("gpt-4o", ""),
        ("gpt-4o*", "gpt-4"),
    ],
)
def test_a_pattern_does_not_mean(pattern: str, model: str) -> None:
    assert not matches(pattern, model)


@pytest.mark.parametrize(
    ("patterns", "model", "decides"),
    [
        (["gpt-4", "gpt-4o"], "gpt-4o", "gpt-4o"),
        (["gpt-4", "gpt-4o-mini"], "gpt-4o", "gpt-4"),
        (["gpt-*", "gpt-4*"], "gpt-4o", "gpt-4*"),
        (["*", "gpt"], "gpt-4o", "gpt"),
        (["*-mini", "gpt-4o"], "gpt-4o-mini", "gpt-4o"),
        (["claude-4-20250514", "claude-4-2025"], "claude-4", "claude-4-2025"),
        (["claude"], "gpt-4o", ""),
        ([], "gpt-4o", ""),
    ],
)
def test_the_most_specific_pattern_decides(patterns: list[str], model: str, decides: str) -> None:
    assert most_specific(patterns, model) == decides


NAMES = st.text("abA*?.[-", max_size=6)


@given(st.lists(NAMES), NAMES)
def test_the_decision_does_not_depend_on_the_order(patterns: list[str], model: str) -> None:
    found = most_specific(patterns, model)
    assert found.lower() == most_specific(reversed(patterns), model).lower()
    assert matches(found, model) or not any(matches(pattern, model) for pattern in patterns)


@given(NAMES, NAMES)
def test_literal_text_matches_whoever_begins_alike(pattern: str, rest: str) -> None:
    if pattern and "*" not in pattern and "?" not in pattern:
        assert matches(pattern, pattern + rest)
