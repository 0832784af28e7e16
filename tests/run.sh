#!/usr/bin/env bash
# Sets up, builds and runs every test: GoogleTest at 1, 2 and 4 ranks through ctest, then the Python tests.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tests/run.sh [CTEST_OPTION...]

Sets up what is missing, builds the release preset and runs all tests; options such as -R REGEX go to ctest.
With CI=true in the environment, compiler warnings are errors.
TEXT
}

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  usage
  exit 0
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/machine.sh
source jobs/machine.sh

jobs/setup.sh
warnings=OFF
if [[ ${CI:-} == true ]]; then warnings=ON; fi
build_release all -DPF2LORA_WERROR=$warnings
allow_mpi_as_root

# A test may start the program at several ranks: as much memory as a compiler takes. Tests of Python wait for disks and
# ranks now and then, so one more of them than the machine has threads.
workers="$(compile_jobs)"
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
failed=0
ctest --preset release --parallel "$workers" --output-on-failure --no-tests=error "$@" || failed=1
.venv/bin/python -m pytest tests/python -q --numprocesses $((workers + 1)) --dist worksteal || failed=1
exit $failed
