#!/usr/bin/env bash
# The main job and its baselines on the same partition and budget, in one report.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: jobs/compare.sh FOLDER [PF2LORA_OPTION...]

Sets up what is missing, builds, prepares the data, and runs the sweep jobs/experiments/compare.toml: the main job with
the same data, seed and number of local steps as PF2LoRA with its exact hypergradient and without a bilevel problem
(joint), HOMLoRA (as the average, and after the local steps of a further round), local-only and centralised training,
each in a folder of its own under FOLDER. Then it writes FOLDER/report with all of them beside the score of each
client's majority class. Runs that are done are skipped, and one that was cut short goes on from its checkpoint.
Further options go to every run:
  jobs/compare.sh results/top1 --adapted-layers top:1 --rounds 15
TEXT
}

if [[ $# -eq 0 || $1 == -h || $1 == --help ]]; then
  usage
  exit 0
fi
folder="$1"
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/machine.sh
source jobs/machine.sh

jobs/workstation.sh "$@" --dry-run >/dev/null # sets up, builds, prepares the data, checks the options
cores="$(usable_cores)"
.venv/bin/python jobs/sweep.py jobs/experiments/compare.toml --output "$folder" \
  --ranks "$((cores < 4 ? cores : 4))" -- "$@" # eight clients in groups of two keep four ranks busy
.venv/bin/python -m analysis.report "$folder"
