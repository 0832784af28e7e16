#!/usr/bin/env bash
# The main job on this machine, from a fresh checkout to the report.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: jobs/workstation.sh [PF2LORA_OPTION...]

Sets up what is missing, builds, prepares data/wordnet.h5, trains with jobs/experiments/wordnet.ini on all cores,
and writes the report. Every step that is done already is skipped.

Options go to pf2lora, behind those of wordnet.ini, and later ones win, --config FILE too:
  jobs/workstation.sh --rounds 3
  jobs/workstation.sh --algorithm homlora --output results/homlora
  jobs/workstation.sh --config jobs/experiments/agnews.ini
Without --output the run goes to results/workstation-<UTC time>. Paths are taken from the checkout. All options:
build/release/pf2lora --help.

Ranks are as many as cores or groups of clients, whichever is fewer; cores left over are threads of the ranks.
--threads N gives every rank N threads, and so starts fewer ranks.

To stop early with everything saved, send USR1 to the ranks (pkill -USR1 -x pf2lora reaches every run of yours), or
give --max-hours; to go on: jobs/workstation.sh --resume --output DIRECTORY

exit code: pf2lora's: 0 done, 2 bad option, 3 bad input file, 4 numerical failure, 85 stopped with everything
saved (run again with --resume); 1 when another step fails
TEXT
}

say() { printf 'workstation: %s\n' "$*" >&2; }
fail() {
  say "error: $*"
  exit 1
}

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=jobs/machine.sh
source "$here/machine.sh"
cd "$here/.."
program=build/release/pf2lora

given() { # given NAME ARGUMENT...: whether the option --NAME is among the arguments
  local name="$1" argument
  shift
  for argument in "$@"; do
    if [[ $argument == "--$name" || $argument == "--$name="* ]]; then return 0; fi
  done
  return 1
}

value_of() { # value_of NAME: from the page that --print-config printed, in $settings
  awk -F ' = ' -v name="$1" '$1 == name {print $2; exit}' <<<"$settings"
}

count_groups() {
  local clients cohort lockstep
  if [[ $(value_of algorithm) == centralized ]]; then
    echo 1
    return
  fi
  clients=$(($(value_of clients) - $(value_of held-out-clients)))
  cohort="$(value_of clients-per-round)"
  if ((cohort == 0)); then cohort=$clients; fi
  lockstep="$(value_of lockstep)"
  echo $(((cohort + lockstep - 1) / lockstep))
}

plan_ranks() { # sets ranks and threads
  local cores groups
  cores="$(usable_cores)"
  groups="$(count_groups)"
  threads="$(value_of threads)"
  if ((threads == 1)) && ! given threads "$@"; then threads=""; fi
  ranks=$((cores / ${threads:-1}))
  if ((ranks > groups)); then ranks=$groups; fi
  if ((ranks < 1)); then ranks=1; fi
  threads="${threads:-$((cores / ranks))}"
  placement=()
  # Other MPIs place ranks well by themselves; asking for more cores than there are would be refused.
  if mpirun --version 2>/dev/null | grep -q 'Open MPI' && ((ranks * threads <= cores)); then
    placement=(--map-by "slot:PE=$threads" --bind-to core)
  fi
}

for argument in "$@"; do
  if [[ $argument == -h || $argument == --help ]]; then
    usage
    exit 0
  fi
done

jobs/setup.sh
say "building $program"
mkdir -p build
build_release pf2lora >build/workstation.log 2>&1 || {
  tail -n 40 build/workstation.log >&2
  fail "the build failed; the whole output is in build/workstation.log"
}
allow_mpi_as_root

# A run that goes on has its options in its directory.
config=(--config jobs/experiments/wordnet.ini)
if given resume "$@"; then config=(); fi
for page in version list print-config; do
  if given "$page" "$@"; then exec "$program" "${config[@]}" "$@"; fi
done
settings="$("$program" "${config[@]}" "$@" --print-config)" || exit $?
output="$(value_of output)"
own_output=()
if [[ $output == results/run ]] && ! given output "$@"; then
  output="results/workstation-$(date -u +%Y%m%dT%H%M%SZ)"
  own_output=(--output "$output")
fi

# Also where an earlier version of this program has prepared it in another format.
if [[ $(value_of problem) == transformer && $(value_of data) == data/wordnet.h5 ]]; then
  .venv/bin/python jobs/prepare.py wordnet --update || exit $?
fi

plan_ranks "$@"
say "$(count_groups) groups of clients on $ranks ranks of $threads threads; results go to $output"
code=0
mpirun -n "$ranks" "${placement[@]}" "$program" "${config[@]}" --threads "$threads" \
  "${own_output[@]}" "$@" || code=$?
if ((code == 85)); then
  say "stopped early with everything saved; go on with: jobs/workstation.sh --resume --output $output"
fi
if ((code != 0)); then exit "$code"; fi
if [[ $(value_of dry-run) == true || ${PF2LORA_REPORT:-} == no ]]; then exit 0; fi

.venv/bin/python -m analysis.report "$output" || fail "the run is done, but the report is not; its files are in $output"
say "the run and its report are in $output"
