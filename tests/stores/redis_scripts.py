"""The scripts alone, without the store around them: an operation goes in, a result comes out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from tests.stores.redis_server import CLOCK

from cross_instance.rules.operations import Instant, Operation, Result
from cross_instance.stores.redis.scripts import LUA, Scripts
from cross_instance.stores.redis.wire import NAMES, Names, decode, encode

R = TypeVar("R", bound=Result)

AT_A_GLANCE = re.compile(r"^local (\w+) = at_a_glance\(\)\nif \1 then return \1 end\n", re.MULTILINE)


def without_glance() -> dict[str, str]:
    """The two scripts that decide plain cases at a glance, without doing so."""
    texts = {name: (LUA / f"{name}.lua").read_text(encoding="utf-8") for name in ("acquire", "settle")}
    return {name: AT_A_GLANCE.sub("", text) for name, text in texts.items()}


class Scripted:
    """`run` of a store, on one connection; at given instants, or now."""

    def __init__(
        self,
        client: redis.Redis,
        namespace: str = "scripted",
        clock: Callable[[], Instant] | None = None,
        replaced: dict[str, str] | None = None,
    ) -> None:
        self.client = client
        self.names = Names(namespace)
        self.keys = self.names.keys
        self._clock = clock
        self._scripts = Scripts({**(replaced or {}), **({} if clock is None else {"clock": CLOCK})})
        self._loaded: set[str] = set()

    def run(self, op: Operation[R], /, nonce: str = "") -> R:
        script = self._scripts[NAMES[type(op)]]
        if script.sha not in self._loaded:
            self.client.script_load(script.text)
            self._loaded.add(script.sha)
        at = () if self._clock is None else (self._clock().mono, self._clock().wall)
        keys = self.names.keys_of(type(op))
        result: Any = decode(self.client.evalsha(script.sha, len(keys), *keys, encode(op), nonce, *at))
        decided: R = result
        return decided

    def close(self) -> None:
        self.client.close()
