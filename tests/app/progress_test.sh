#!/usr/bin/env bash
# progress_test.sh PROGRAM MPIRUN...: progress 'auto' is a bar in a terminal and lines in a log, launched or not.
# PROGRAM is progress_program; MPIRUN is for example: mpirun --oversubscribe -n 2. `script` supplies terminals.
set -u
program=$1
shift
launcher="$*"
failures=0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

expect() {  # expect FORM WHAT COMMAND: COMMAND's output goes to a log
  local form=lines
  timeout 60 bash -c "$3" >"$folder/output" 2>"$folder/errors" </dev/null
  if grep -q $'\x1b\\[K' "$folder/output"; then form=bar; fi
  if ! grep -q '3/3' "$folder/output"; then form="nothing"; fi
  if [ "$form" != "$1" ]; then
    echo "$2: $form where $1 was expected:"
    cat -v "$folder/output" "$folder/errors"
    failures=$((failures + 1))
  fi
}
in_terminal() { printf 'script -qec %q /dev/null' "stty cols 132; $1"; }

expect lines 'alone, to a log' "$program"
expect lines 'launched, to a log' "$launcher $program"
expect lines 'launched, to a pipe' "$launcher $program | cat"
expect lines 'launched, to a file from within a terminal' "$(in_terminal "$launcher $program >$folder/inner"); cat $folder/inner"
expect lines 'launched, to a pipe within a terminal' "$(in_terminal "$launcher $program | cat")"
expect bar 'alone, in a terminal' "$(in_terminal "$program")"
expect bar 'launched, in a terminal' "$(in_terminal "$launcher $program")"
expect bar 'launched by way of a shell, in a terminal' "$(in_terminal "$launcher bash -c '$program; true'")"
expect lines 'a rank whose launcher cannot be found, in a terminal' \
  "$(in_terminal "OMPI_COMM_WORLD_RANK=0 $program")"
expect lines 'lines asked for, in a terminal' "$(in_terminal "$launcher $program lines")"
expect bar 'a bar asked for, to a log' "$launcher $program bar"

timeout 60 bash -c "$(in_terminal "$launcher $program")" >"$folder/output" </dev/null
if ! grep -q '^columns 132' "$folder/output"; then
  echo 'the width of the terminal did not reach the bar:'
  cat -v "$folder/output"
  failures=$((failures + 1))
fi
exit $((failures > 0))
