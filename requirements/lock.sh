#!/bin/sh
# Writes the lock files anew from pyproject.toml and requirements/*.in.
set -eu
cd "$(dirname "$0")/.."
compile() { uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "requirements/lock.sh" "$@"; }
compile pyproject.toml requirements/build.in requirements/dev.in --extra demo --extra httpx --extra httpx2 --extra opentelemetry --extra prometheus --extra redis --output-file requirements/dev.txt
compile pyproject.toml requirements/build.in requirements/previous.in --output-file requirements/previous.txt
compile pyproject.toml requirements/build.in requirements/earlier.in --output-file requirements/earlier.txt
compile pyproject.toml requirements/build.in requirements/dev.in requirements/bench.in --extra demo --extra httpx --extra httpx2 --extra opentelemetry --extra prometheus --extra redis --output-file requirements/bench.txt
compile pyproject.toml requirements/build.in --extra demo --output-file requirements/demo.txt
