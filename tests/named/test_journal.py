"""The log files: the guide's lines, JSON, rotation, who may read them, and many writers of one file."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from tests.runtime.doubles import Timeline, settings_in

from cross_instance import Runtime, events
from cross_instance.events import Event
from cross_instance.rules.operations import SECOND
from cross_instance.watching.journal import ADAPTIVE_LOG, COORDINATOR_LOG, Journal
from cross_instance.watching.shared_file import KEPT, SharedFile

if TYPE_CHECKING:
    from cross_instance.config import Settings

STAMP = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] ")


def event(kind: str, message: str = "", **fields: Any) -> Event:
    return Event(kind, time.time(), "analyzer-1", message, MappingProxyType(fields))


def granted(count: int = 1, used: int | None = 121, amount: int | None = 500, account: str = "openai/default") -> Event:
    return event(events.REQUESTS_GRANTED, account=account, requests=count, used=used, amount=amount)


def lines(file: Path) -> list[str]:
    """A file's lines without their times, which each of them has."""
    found = file.read_text().splitlines()
    assert all(STAMP.match(line) for line in found)
    return [STAMP.sub("", line) for line in found]


def written(folder: Path, *told: Event, as_json: bool = False) -> Path:
    journal = Journal(folder / ".pi" / "logs", as_json=as_json)
    journal.write(told)
    journal.close()
    return folder / ".pi" / "logs"


def test_the_lines_are_the_guide_s(tmp_path: Path) -> None:
    logs = written(
        tmp_path,
        granted(),
        granted(3, None, None, "openai/batch"),
        event(events.REQUESTS_REJECTED, account="openai/default", model="gpt-4o", requests=2),
        event(events.LIMIT_CHANGED, "Reduced requests per minute from 500 to 450 (openai, told)"),
        event(events.STORE_RECOVERED, "the store is back"),
    )
    assert lines(logs / COORDINATOR_LOG) == [
        "Instance analyzer-1 requested 1 request (openai)",
        "Approved: 121/500 requests used",
        "Instance analyzer-1 requested 3 requests (openai/batch)",
        "Approved",
        "Instance analyzer-1: store-recovered: the store is back",
    ]
    assert lines(logs / ADAPTIVE_LOG) == [
        "429 error detected, adjusting rate limit (openai gpt-4o)",
        "Reduced requests per minute from 500 to 450 (openai, told)",
    ]


def test_json_has_an_object_for_each_event(tmp_path: Path) -> None:
    logs = written(tmp_path, granted(2), event(events.LIMIT_CHANGED, "Raised", old=1), as_json=True)
    told = json.loads((logs / COORDINATOR_LOG).read_text())
    assert (told["kind"], told["instanceId"], told["fields"]["requests"]) == ("requests-granted", "analyzer-1", 2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["time"])
    assert json.loads((logs / ADAPTIVE_LOG).read_text())["fields"] == {"old": 1}


def test_a_line_cannot_begin_another(tmp_path: Path) -> None:
    logs = written(tmp_path, event("x", "one\n[2026-01-01 00:00:00] forged\x1b[2J\u2028\udcff"))
    assert lines(logs / COORDINATOR_LOG) == [r"Instance analyzer-1: x: one [2026-01-01 00:00:00] forged [2J \udcff"]


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    logs = written(tmp_path, granted())
    assert [stat.S_IMODE(path.stat().st_mode) for path in (logs, logs.parent, logs / COORDINATOR_LOG)] == [
        0o700,
        0o700,
        0o600,
    ]


def test_files_are_moved_aside_and_the_oldest_is_forgotten(tmp_path: Path) -> None:
    file = SharedFile(tmp_path / "a.log", longest=100)
    for place in range(40):
        file.write(f"{place:030}")
    file.close()
    kept = sorted(path.name for path in tmp_path.glob("a.log*") if not path.name.endswith(".lock"))
    assert kept == ["a.log", *(f"a.log.{place}" for place in range(1, KEPT + 1))]
    assert all(path.stat().st_size <= 100 for path in tmp_path.glob("a.log*"))
    assert (tmp_path / "a.log").read_text().splitlines()[-1] == f"{39:030}"


def test_who_finds_its_file_moved_goes_on_in_the_new_one(tmp_path: Path) -> None:
    one, two = SharedFile(tmp_path / "a.log"), SharedFile(tmp_path / "a.log")
    one.write("first")
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    two.write("second")
    one.write("third")
    one.close()
    two.close()
    assert (tmp_path / "a.log").read_text() == "second\nthird\n"


WRITER = """
import sys
from pathlib import Path
from cross_instance.watching.shared_file import SharedFile
file = SharedFile(Path(sys.argv[1]), longest=20_000)
for place in range(150):
    file.write(f"{sys.argv[2]}-{place:03}-" + sys.argv[2] * 400)
file.close()
"""


def test_processes_write_one_file_without_torn_lines(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "a.log"), name]) for name in "abcd"]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    found = [line for path in tmp_path.glob("a.log*") for line in path.read_text().splitlines()]
    assert len(found) > 100
    assert [line for line in found if not re.fullmatch(r"([a-d])-\d{3}-\1{400}", line)] == []


def test_a_link_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".pi" / "logs").mkdir(parents=True)
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".pi" / "logs" / COORDINATOR_LOG).symlink_to(tmp_path / "precious")
    written(tmp_path, granted(), granted())
    assert (tmp_path / "precious").read_text() == "mine"
    assert caplog.text.count("cannot be written") == 1


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".pi" / "logs").mkdir(parents=True)
    os.mkfifo(tmp_path / ".pi" / "logs" / COORDINATOR_LOG)
    written(tmp_path, granted(), granted())
    assert caplog.text.count("cannot be written") == 1


# --- fed by a runtime ----------------------------------------------------------------------------------------------


def project_in(folder: Path, **settings: Any) -> Settings:
    (folder / ".pi").mkdir()
    return settings_in(folder, **settings)


def test_a_runtime_writes_what_it_did_when_it_leaves_at_the_latest(tmp_path: Path) -> None:
    limits, unlearned = {"requestsPerMinute": 60, "burst": 10}, {"enabled": False}
    settings = project_in(tmp_path, providers={"acme": limits}, adaptive_rate_control=unlearned)
    with Runtime("one", store=Timeline(), settings=settings) as runtime:
        for _ in range(3):
            with runtime.permit("acme", "m-1"):
                pass
        with runtime.permit("acme", "m-1") as permit:
            permit.settle(status=429)
        runtime._membership.events.tell("odd", "something odd")
    logs = tmp_path / ".pi" / "logs"
    told = lines(logs / COORDINATOR_LOG)
    asked = [re.fullmatch(r"Instance one requested (\d) requests? \(acme\)", line) for line in told]
    assert sum(int(match[1]) for match in asked if match) == 4
    assert "Approved: 4/60 requests used" in told
    assert "Instance one: odd: something odd" in told
    assert lines(logs / ADAPTIVE_LOG) == ["429 error detected, adjusting rate limit (acme m-1)"]


def test_what_the_provider_tells_of_its_limit_is_written_with_both_figures(tmp_path: Path) -> None:
    timeline = Timeline()
    runtime = Runtime("one", store=timeline, settings=project_in(tmp_path))
    with runtime:
        with runtime.permit("openai", "m-1"):
            pass
        runtime._membership.activity._safely()
        headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}
        for _ in range(3):
            with runtime.permit("openai", "m-1") as permit:
                permit.settle(status=429, headers={**headers, "retry-after": "1"})
            timeline.clock.advance(120 * SECOND)
        before = {limit.amount for limit in runtime.limits() if limit.kind == "requests" and limit.provider == "openai"}
    assert before == {60}
    assert any(
        line.startswith("Reduced requests per minute from 500 to 60 (openai")
        for line in lines(tmp_path / ".pi" / "logs" / ADAPTIVE_LOG)
    )


def test_logging_off_writes_nothing(tmp_path: Path) -> None:
    settings = project_in(tmp_path, logging=False)
    with Runtime("one", settings=settings) as runtime, runtime.permit("acme", "m-1"):
        pass
    assert list((tmp_path / ".pi").iterdir()) == []
    assert list((settings.runtime_dir / "events").glob("*.jsonl")) == []


def test_a_folder_that_is_no_project_gets_no_logs(tmp_path: Path) -> None:
    with Runtime("one", store=Timeline(), settings=settings_in(tmp_path)) as runtime, runtime.permit("acme", "m-1"):
        pass
    assert not (tmp_path / ".pi").exists()


def test_json_on_request(tmp_path: Path) -> None:
    settings = project_in(tmp_path, log_format="json")
    with Runtime("one", store=Timeline(), settings=settings) as runtime, runtime.permit("openai", "m-1"):
        pass
    told = [json.loads(line) for line in (tmp_path / ".pi" / "logs" / COORDINATOR_LOG).read_text().splitlines()]
    assert [one["fields"]["account"] for one in told if one["kind"] == "requests-granted"] == ["openai/default"]


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".pi").write_text("a file")
    settings = settings_in(tmp_path)
    with Runtime("one", store=Timeline(), settings=settings) as runtime, runtime.permit("openai", "m-1"):
        pass
    assert caplog.text.count("cannot be written") == 1


def test_a_pipe_that_is_read_too_slowly_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    file = SharedFile(tmp_path / "log")
    try:
        with pytest.raises(OSError, match="No space"):
            file.write(1_000_000 * "x")
        with pytest.raises(OSError, match="No space"):
            file.write("nothing fits any more")
    finally:
        file.close()
        os.close(reader)
