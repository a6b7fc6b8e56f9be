"""The guide's Example 1: analysers in several processes share one account, and each other's work.

    PI_INSTANCE_ID=analyzer-1 python examples/analyze.py src/core

Each Python file of the folder is a task. Whoever is done with its own folder takes over files of the others; a file
that was analysed as it is now is not analysed again for a day.
"""

from __future__ import annotations

import sys
from pathlib import Path

from openai import OpenAI

from cross_instance import Runtime

MODEL = "gpt-4o-mini"
LONGEST = 8_000
"""Characters of a file that are sent."""


def main(folder: Path) -> None:
    with Runtime() as runtime, OpenAI(http_client=runtime.http_client("openai")) as client:

        @runtime.task("analyze", provider="openai", model=MODEL, timeout=300)
        def analyze(path: str) -> str:
            text = Path(path).read_text(encoding="utf-8")[:LONGEST]
            question = f"Which risks do you see in {path}?\n\n{text}"
            answer = client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": question}], max_completion_tokens=60
            )
            return answer.choices[0].message.content or ""

        files = [str(path.resolve()) for path in sorted(folder.rglob("*.py"))]
        handles = runtime.submit_many(analyze, [(file,) for file in files], key=version_of)
        runtime.work(until_idle=True)
        for file, handle in zip(files, handles, strict=True):
            finding = handle.result()
            print(f"{file} ({handle.status().attempts[-1].instance_id}): {finding}")


def version_of(file: str) -> str:
    return f"analyze {file} {Path(file).stat().st_mtime_ns}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
