#!/usr/bin/env bash
# The main job and its baselines on the same partition and budget, in one report.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: jobs/compare.sh FOLDER [PF2LORA_OPTION...]

Runs the main job (jobs/workstation.sh) five times with the same data, seed and number of local steps, each in a
folder of its own under FOLDER: PF2LoRA with its exact hypergradient and without a bilevel problem (joint), HOMLoRA
(as the average, and after the local steps of a further round), local-only and centralised training. Then it writes
FOLDER/report with all of them beside the score of each client's majority class. Runs that are done are skipped, and
one that was cut short goes on from its checkpoint. Further options go to every run:
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

run() { # run NAME OPTION...
  local output="$folder/$1"
  shift
  runs+=("$output")
  if [[ -e $output/results.h5 && -e $output/adapters.h5 ]]; then return; fi
  local again=()
  if [[ -e $output/checkpoint.h5 ]]; then again=(--resume); elif [[ -e $output ]]; then again=(--overwrite); fi
  PF2LORA_REPORT=no jobs/workstation.sh "$@" --output "$output" "${again[@]}"
}

runs=()
run pf2lora --algorithm pf2lora "$@"
run pf2lora-joint --algorithm pf2lora --hypergradient joint "$@"
run homlora --algorithm homlora "$@"
run local --algorithm local "$@"
run centralized --algorithm centralized "$@"
.venv/bin/python -m analysis.report "${runs[@]}" --output "$folder/report"
