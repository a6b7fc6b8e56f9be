"""A process that uses the real SDKs with keys, meets every trouble with them, tells what it sees, and is killed.

Its log, at the lowest level, goes to standard error. What an SDK's own errors say is the SDK's: it is not told.
"""

import logging
import os
import signal
import sys
import traceback
from typing import Any

import anthropic
import openai
from google import genai

from cross_instance import CrossInstanceError, Runtime


def ask(openai_url: str | None, client: Any, key: str, **options: float) -> str:
    """Make one call, and say how it ended."""
    sdk = openai.OpenAI(api_key=key, base_url=openai_url, http_client=client, max_retries=0)
    try:
        sdk.with_options(**options).chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])  # type: ignore[arg-type]  # options of the client
    except openai.APIError as error:
        return type(error).__name__
    return "answered"


def main(openai_url: str, refusing_url: str) -> None:
    keys = {name: os.environ[f"{name}_API_KEY"] for name in ("OPENAI", "ANTHROPIC", "GEMINI")}
    runtime = Runtime("key-user")
    runtime.join()
    client: Any = runtime.http_client(library="httpx")
    print([ask(openai_url, client, keys["OPENAI"]) for _ in range(2)])
    print(ask(openai_url, client, keys["OPENAI"], timeout=0.5))
    print(ask(refusing_url, client, keys["OPENAI"]))
    current: Any = runtime.http_client()
    anthropic.Anthropic(api_key=keys["ANTHROPIC"], http_client=current).messages.create(
        model="m", max_tokens=9, messages=[{"role": "user", "content": "Hello"}]
    )
    options: Any = {"httpx_client": current}
    gemini = genai.Client(api_key=keys["GEMINI"], http_options=options)
    gemini.models.generate_content(model="m", contents="Hello")
    try:
        runtime.permit("openai", "m", tokens=10**8, timeout=0).acquire()
    except CrossInstanceError:
        traceback.print_exc()
    for told in (runtime, runtime.settings, runtime.status(), runtime.limits(), runtime.pi_instance_status(), client):
        print(repr(told))
    runtime.permit("anthropic", "m").acquire()
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs whole, with the password in them
    main(*sys.argv[1:])
