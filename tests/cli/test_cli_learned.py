"""What was learned of limits, told with its evidence and forgotten on request; the demo's hidden part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.cli.commands import Place

from cross_instance import Runtime
from cross_instance.cli.demo.hidden import Moment, Search, text_of
from cross_instance.config import load_settings
from cross_instance.explaining import Explained, text_of as explained_text
from cross_instance.prediction import prediction_of
from cross_instance.rules.learning_values import WHOLE
from cross_instance.rules.operations import SECOND, Kind, LearnedState

if TYPE_CHECKING:
    from collections.abc import Iterator

PROVIDERS = {"openai": {"requestsPerMinute": 500, "models": {"o3*": {"concurrency": 2}}}}


@pytest.fixture
def live(place: Place) -> Iterator[Runtime]:
    """An instance one of whose requests met 429, without a word on why."""
    place.configure({"providers": PROVIDERS})
    with Runtime("one", settings=load_settings(place.project, environ={}, home=place.home)) as runtime:
        with runtime.permit("openai", "gpt-4o"):
            pass
        with runtime.permit("openai", "gpt-4o") as permit:
            permit.settle(status=429, headers={"retry-after": "0"})
        with runtime.permit("anthropic", "claude"):
            pass
        yield runtime


@pytest.mark.usefixtures("live")
def test_limits_are_explained(place: Place) -> None:
    text = place.run("cross-instance", "limits", "--explain").stdout
    openai = text[text.index("openai\n") :]
    assert "configured  500 requests/min, never exceeded" in openai
    assert "told        nothing" in openai
    assert "no limit yet; 50.0 requests/min are allowed, begun with 500" in openai
    assert "2 granted, 1 of them met 429 (50.00%)" in openai
    assert "last change" in openai
    assert "in force    50 requests/min (learned)" in openai
    anthropic = text[text.index("anthropic\n") :].partition("\n\n")[0]
    assert "in force    50 requests/min (preset)" in anthropic
    one = place.read_json("cross-instance", "limits", "--explain", "--provider", "openai", "--json")["limits"]
    assert [entry["model"] for entry in one] == ["", "o3*"]
    assert (one[0]["learned"]["rejected"], one[0]["learned"]["phase"]) == (1, "search")
    assert one[1]["learned"] is None


def test_every_piece_of_evidence_is_told() -> None:
    state = LearnedState(
        started=500_000,
        told=400_000,
        doubted=True,
        rate=297_000,
        estimate=300_000,
        phase="cruise",
        reason="overload",
        measured=150,
        span=30 * SECOND,
        granted=2_000,
        rejected=10,
        cap=12,
        samples=(12, 13, 12),
        token_kind=Kind.INPUT_TOKENS,
        tokens=30_000_000,
    )
    text = explained_text(Explained("openai", "batch", "o3*", (), state))
    assert text.startswith("openai/batch, models o3*\n  in force    no limit\n  configured  nothing\n")
    assert "told        400 requests/min by the provider; doubted, since the counts contradict it\n" in text
    evidence = "150 accepted in 30.0 s between the last two overloads"
    assert f"learned     300 requests/min: {evidence}; 297 are allowed, begun with 500\n" in text
    assert "at once     12, from 12, 13, 12 in flight at 429s\n" in text
    assert "tokens      30,000 input tokens/min\n" in text
    assert "requests    2,000 granted, 10 of them met 429 (0.50%)\n" in text
    assert text.endswith(": a 429")


def test_what_is_not_learned_is_told_with_its_reason(place: Place) -> None:
    def explained(settings: dict[str, object]) -> str:
        place.configure(settings)
        with Runtime("one", settings=load_settings(place.project, environ={}, home=place.home)) as runtime:
            with runtime.permit("openai", "gpt-4o") as permit:
                permit.settle(status=429, headers={"retry-after": "0"})
            return place.run("cross-instance", "limits", "--explain", "--provider", "openai").stdout

    off: dict[str, object] = {"adaptiveRateControl": {"enabled": False}}
    assert "learned     nothing: adaptiveRateControl.enabled is false" in explained(off | {"providers": PROVIDERS})
    assert "learned     nothing: adaptiveRateControl.enabled is false" in explained(off)
    place.configure({"providers": PROVIDERS})
    assert "learned     nothing\n" in place.run("cross-instance", "limits", "--explain").stdout, "it has met a 429"


@pytest.mark.usefixtures("live")
def test_the_learned_limit_is_shown_per_minute(place: Place) -> None:
    line = place.run("cross-instance", "limits", "--provider", "openai").stdout.splitlines()[1]
    assert line.split()[3] == "50/min"
    assert line.split()[-1] == "learned"


@pytest.mark.usefixtures("live")
def test_the_status_shows_how_many_met_429_and_what_would_follow(place: Place) -> None:
    lines = [line.split() for line in place.run("cross-instance", "status").stdout.splitlines()]
    table = lines[next(at for at, line in enumerate(lines) if line[:1] == ["429s"]) :]
    assert ["openai", "all", "50.00%", "50.00%", "50.00%", "100%", "20.0%", "(off)"] in table
    assert ["anthropic", "all", "0.00%", "0.00%", "0.00%", "0%", "none"] in table
    predicted = place.read_json("cross-instance", "status", "--json")["prediction"]
    openai = next(one for one in predicted if one["account"] == "openai/default")
    assert openai["shares429"] == {"last10Minutes": 0.5, "last30Minutes": 0.5, "last60Minutes": 0.5}
    assert (openai["risk"], openai["proactiveCut"], openai["cutInForce"]) == (1.0, 0.2, False)


@pytest.mark.parametrize(("cut", "text"), [(150_000, "15.0%"), (0, "20.0% (off)")])
def test_a_cut_in_force_is_told_as_one(cut: int, text: str) -> None:
    assert prediction_of(LearnedState(risk=WHOLE, cut=cut)).cut_text == text


@pytest.mark.usefixtures("live")
def test_reset_forgets(place: Place) -> None:
    def reset(*what: str) -> str:
        return place.run("cross-instance", "limits", "reset", *what).stdout

    assert reset("gemini") == "Nothing was learned.\n"
    assert reset("openai", "o3-mini") == "Nothing was learned.\n"
    assert reset("OpenAI", "gpt-4o") == "Forgotten: what was learned of openai/default.\n"
    assert "in force    500 requests/min (configured)" in place.run("cross-instance", "limits", "--explain").stdout
    assert reset() == "Forgotten: what was learned of anthropic/default.\n"


def test_a_misspelled_provider_is_not_told_that_nothing_was_learned(place: Place) -> None:
    place.configure({"providers": {"acme": {"requestsPerMinute": 60}}})
    assert place.run("cross-instance", "limits", "reset", "acme").stdout == "Nothing was learned.\n"
    done = place.run("cross-instance", "limits", "reset", "acne")
    known = "openai, anthropic, deepseek, gemini, azure, acme"
    assert done == (2, "", f"cross-instance: unknown provider 'acne'; known are {known}\n")


def test_nothing_is_made_where_nothing_is_used(place: Place) -> None:
    assert place.run("cross-instance", "limits", "reset").stdout == "Nothing was learned.\n"
    explained = place.run("cross-instance", "limits", "--explain").stdout
    assert explained == "No account has been used since the machine was started.\n"
    assert not (place.home / ".pi" / "runtime").exists()


def test_the_demo_s_search_is_told_in_one_line() -> None:
    moments = (Moment(0.0, 0, 0, 500.0, 0.0), Moment(60.0, 297, 3, 297.0, 300.0))
    text = text_of(Search(300, 60.0, 12.4, moments, "what was learned"))
    assert "The hidden limit of 300/min was found after 12 s; 3 of 300 requests met 429 (1.0%), 96% of it used." in text
    assert "not found" in text_of(Search(300, 60.0, None, moments, ""))
