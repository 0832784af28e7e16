#!/usr/bin/env bash
# Builds and runs the benchmarks of a local step; see tests/benchmarks/README.md.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tests/benchmarks/run.sh [OPTION...]

Sets up what is missing, builds the release preset's step_benchmark and compares its steps with a PyTorch +
transformers + PEFT loop, one thread each; with --flower also whole rounds with Flower's. Options go to
tests/benchmarks/run.py:

TEXT
  .venv/bin/python tests/benchmarks/run.py --help 2>/dev/null || true
}

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  usage
  exit 0
fi
# shellcheck source=jobs/machine.sh
source jobs/machine.sh

jobs/setup.sh
build_release step_benchmark
case " $* " in *" --flower "*) build_release pf2lora ;; esac
allow_mpi_as_root
exec .venv/bin/python tests/benchmarks/run.py "$@"
