#!/usr/bin/env bash
# gitopsd beside what people use today: bench/run.sh [--quick] [--only ROW,…]; see docs/performance.md
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -x .venv/bin/python ]] || scripts/bootstrap.sh --extra test >&2
unset PYTHONDONTWRITEBYTECODE # a start would compile all of gitopsd each time
PATH="$PWD/.venv/bin:$PATH" exec .venv/bin/python -m bench.run "$@"
