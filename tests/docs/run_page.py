"""Runs the Python blocks of one page, one after the other in one namespace: `python run_page.py PAGE.md`.

A block that the page has its readers save as a file is left to the page's shell blocks.

Errors name the page and its line. `await` may stand outside of functions, as in `python -m asyncio`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.docs.pages import blocks_of


def main(page: Path) -> None:
    warnings.simplefilter("error")
    namespace: dict[str, Any] = {"__name__": "page"}
    with asyncio.Runner() as runner:
        for block in blocks_of(page):
            if block.language == "python" and block.saved_as is None:
                code = compile("\n" * (block.line - 1) + block.code, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                result = eval(code, namespace)
                if inspect.iscoroutine(result):
                    runner.run(result)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
