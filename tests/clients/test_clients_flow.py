"""The flow and its attempts by themselves: steps taken by hand, time moved by hand."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from cross_instance.clients.attempts import Attempt
from cross_instance.clients.calls import DEFAULT_BUDGET, Caller, Head
from cross_instance.clients.flow import Flow, run, serve
from cross_instance.errors import RateLimitExceeded, StoreUnavailable
from cross_instance.providers.tokens import Calibration, Usage
from cross_instance.rules.operations import Outcome

BODY = b'{"model": "gpt-test", "messages": [{"role": "user", "content": "hello"}], "stream": true}'
REFUSED = RateLimitExceeded("none left", provider="openai", model="gpt-test", limit=None, retry_after=9.0)


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Recorded:
    """A permit that writes down what it is told."""

    def __init__(self, timeout: float = 0.0, refuse: Exception | None = None) -> None:
        self.timeout = timeout
        self.settled: dict[str, Any] = {}
        self.events: list[str] = []
        self._refuse = refuse

    def acquire(self) -> None:
        if self._refuse is not None:
            raise self._refuse
        self.events.append("acquired")

    def sent(self) -> None:
        self.events.append("sent")

    def settle(self, **report: Any) -> None:
        self.events.append("settled")
        self.settled = report

    def close(self) -> None:
        self.events.append("closed")


class Answer(NamedTuple):
    """A response."""

    status_code: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


class Script:
    """A runtime and a wire in one: hands out recorded permits, gives the answers of a script, each in ten seconds."""

    def __init__(self, *script: Answer | BaseException, permits: int = 100, read_timeout: float | None = None) -> None:
        self.head = Head("POST", "api.openai.com", "/v1/chat/completions", {}, read_timeout)
        self.timeouts: tuple[type[BaseException], ...] = (TimeoutError,)
        self.settings = self
        self.calibration = Calibration()
        self.clock = Clock()
        self.permits: list[Recorded] = []
        self._left = permits
        self._script = list(script)

    def provider_for_host(self, host: str) -> str | None:
        return "openai" if host == "api.openai.com" else None

    def permit(self, provider: str, model: str, **request: Any) -> Recorded:
        refuse = REFUSED if len(self.permits) >= self._left else None
        self.permits.append(Recorded(request["timeout"], refuse))
        return self.permits[-1]

    def keep_body(self, limit: int) -> bytes:
        return BODY

    def send(self, attempt: Attempt | None) -> Answer:
        assert attempt is not None
        attempt.sent()
        self.clock.now += 10
        answer = self._script.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def read(self, response: Answer) -> bytes:
        return response.body

    def metered(self, response: Answer, attempt: Attempt) -> Answer:
        attempt.feed(response.body)
        attempt.completed()
        attempt.permit.close()
        return response

    def replayed(self, response: Answer, body: bytes, headers: dict[str, str]) -> Answer:
        return response._replace(headers={**response.headers, **headers})

    def refuse(self, refusal: Any, provider: str) -> Answer:
        return Answer(refusal.status)

    def play(self) -> Flow[Any]:
        return serve(Caller(self), self, self.clock)


def test_waiting_and_sending_again_share_one_budget() -> None:
    script = Script(Answer(429), Answer(429), Answer(200), read_timeout=60.0)
    assert run(script.play()).status_code == 200
    assert [permit.timeout for permit in script.permits] == [60.0, 50.0, 40.0]
    whole = ["acquired", "sent", "settled", "closed"]
    assert [permit.events for permit in script.permits] == [whole, whole, whole]
    outcomes = [permit.settled["outcome"] for permit in script.permits]
    assert outcomes == [Outcome.REJECTED, Outcome.REJECTED, Outcome.SUCCESS]


def test_a_request_without_a_timeout_has_the_sdks_budget() -> None:
    script = Script(Answer(200))
    run(script.play())
    assert script.permits[0].timeout == DEFAULT_BUDGET


def test_no_time_left_is_never_negative() -> None:
    script = Script(Answer(429), Answer(200), read_timeout=5.0)
    run(script.play())
    assert script.permits[1].timeout == 0.0


def test_without_a_second_permit_the_first_answer_is_handed_over() -> None:
    script = Script(Answer(429, {"x": "y"}), permits=1)
    assert run(script.play()) == Answer(429, {"x": "y"})


def test_without_any_permit_an_answer_is_made_here() -> None:
    assert run(Script(permits=0).play()) == Answer(429)


def test_a_store_out_of_reach_is_an_error() -> None:
    script = Script(Answer(200))
    flow = script.play()
    next(flow)
    flow.send(BODY)
    with pytest.raises(StoreUnavailable):
        flow.throw(StoreUnavailable("gone"))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TimeoutError(), Outcome.TIMEOUT),
        (ConnectionResetError(), Outcome.ERROR),
        (KeyboardInterrupt(), Outcome.SUCCESS),
    ],
)
def test_whatever_breaks_off_an_attempt_closes_its_permit(error: BaseException, outcome: Outcome) -> None:
    script = Script(error)
    with pytest.raises(type(error)):
        run(script.play())
    assert script.permits[0].events == ["acquired", "sent", "settled", "closed"]
    assert script.permits[0].settled["outcome"] is outcome


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_flow_can_be_thrown_away_at_every_step(steps: int) -> None:
    script = Script(Answer(429), Answer(200))
    flow = script.play()
    step = next(flow)
    for _ in range(steps - 1):
        step = flow.send(step())
    before = [[*permit.events] for permit in script.permits]
    flow.close()
    assert [permit.events for permit in script.permits] == before, "no step is taken any more"


# --- attempts ------------------------------------------------------------------------------------------------------


def attempt(clock: Clock, status: int = 200) -> tuple[Attempt, Recorded]:
    call = Caller(Script()).call("openai", Script().head, BODY)
    assert call is not None
    permit = Recorded()
    made = Attempt(call, permit, Calibration(), clock)
    made.sent()
    made.answered(status, {"content-type": "text/event-stream"})
    return made, permit


def test_the_first_token_is_not_a_sign_of_life() -> None:
    clock = Clock()
    made, permit = attempt(clock)
    for text in (b": keep-alive\n\n", b"\n", b"data: {}\n\n", b"data: {}\n\n"):
        clock.now += 1
        made.feed(text)
    made.completed()
    assert permit.settled["first_token"] == 3.0


@pytest.mark.parametrize("last", [b"data: [DONE]", b"data: [DONE]\n\n"])
@pytest.mark.parametrize("cut", range(1, 12))
def test_a_stream_closed_after_its_last_event_is_complete(last: bytes, cut: int) -> None:
    made, permit = attempt(Clock())
    made.feed(b'data: {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}\n\n')
    made.feed(last[:cut])
    made.feed(last[cut:])
    made.abandoned()
    assert permit.settled["usage"] == Usage(input_tokens=7, output_tokens=3)


def test_a_stream_closed_earlier_has_no_known_usage() -> None:
    made, permit = attempt(Clock())
    made.feed(b'data: {"usage": {"prompt_tokens": 7, "completion_tokens": 1}}\n\n')
    made.abandoned()
    assert permit.settled["outcome"] is Outcome.SUCCESS
    assert permit.settled["usage"] is None


def test_an_attempt_ends_once() -> None:
    made, permit = attempt(Clock())
    made.completed()
    made.abandoned()
    made.failed(TimeoutError(), (TimeoutError,))
    assert permit.events == ["sent", "settled"]
    assert permit.settled["outcome"] is Outcome.SUCCESS


def test_an_attempt_that_was_not_sent_is_ignored() -> None:
    call = Caller(Script()).call("openai", Script().head, BODY)
    assert call is not None
    permit = Recorded()
    Attempt(call, permit, Calibration()).failed(ConnectionRefusedError(), ())
    assert permit.settled["outcome"] is Outcome.IGNORED
    assert permit.events == ["settled"]
