#!/usr/bin/env bash
# Prints the lowest versions of the dependencies that pyproject.toml permits, with the extras that
# run without more, for Python 3.10. Needs uv; torch stays that of constraints.txt, because all
# earlier ones bring gigabytes of CUDA libraries on Linux.
set -euo pipefail
cd "$(dirname "$0")/../.."
override=$(mktemp)
trap 'rm -f "$override"' EXIT
grep '^torch==' constraints.txt > "$override"
uv pip compile --quiet --no-header --no-annotate --resolution lowest-direct --python-version 3.10 \
    --override "$override" --extra serve --extra report --extra http pyproject.toml
