# shellcheck shell=bash
# What this machine can take, and the build: functions for the scripts that source this file.

# Physical cores that this process may use: those of its CPU affinity, within a container's CPU quota. With "threads",
# hardware threads instead.
usable_cores() {
  "$(command -v python3 || echo .venv/bin/python)" - "${1:-cores}" <<'PYTHON'
import math
import os
import sys

cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def core(cpu):
    try:
        with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
            return file.read()
    except OSError:
        return cpu


count = len(cpus if sys.argv[1] == "threads" else {core(cpu) for cpu in cpus})
try:
    with open("/sys/fs/cgroup/cpu.max") as file:
        quota, period = file.read().split()
    if quota != "max":
        count = min(count, math.ceil(int(quota) / int(period)))
except (OSError, ValueError):
    pass
print(max(1, count))
PYTHON
}

# Compilers at a time: one a hardware thread, and 2 GiB of free memory for each, since LibTorch's headers take that much.
compile_jobs() {
  local threads by_memory
  threads="$(usable_cores threads)"
  by_memory="$(awk '/^MemAvailable:/ {print int($2 / 2097152)}' /proc/meminfo 2>/dev/null || true)"
  by_memory="${by_memory:-$threads}"
  if ((by_memory < 1)); then by_memory=1; fi
  echo $((threads < by_memory ? threads : by_memory))
}

# build_release TARGET [CMAKE_ARGUMENT...]: configures and builds the release preset of the checkout in $PWD.
build_release() {
  local target="$1"
  shift
  cmake --preset release "$@"
  cmake --build --preset release --target "$target" --parallel "$(compile_jobs)"
}

# Open MPI refuses to run as root, as one is in a container, unless it is told twice.
allow_mpi_as_root() {
  if ((EUID == 0)); then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
}
