#!/usr/bin/env bash
# exit_code_test.sh PROGRAM [LAUNCHER...]: an error of one rank ends all of them with its code and one message.
# LAUNCHER is for example: mpirun --oversubscribe -n 4
set -u
program=$1
shift
failures=0

expect() {  # expect CODE MESSAGE HOW
  local output code messages
  output=$(timeout 60 "${launcher[@]}" "$program" "$3" 2>&1)
  code=$?
  messages=$(grep -c '^error: ' <<<"$output")
  if [ "$code" != "$1" ] || [ "$messages" != 1 ] || ! grep -q "$2" <<<"$output"; then
    echo "$3: exit code $code and $messages messages where $1 and one '$2' were expected:"
    echo "$output"
    failures=$((failures + 1))
  fi
}

launcher=("$@")
expect 3 'error: the file is missing' together
expect 4 'error: outside together' abort
exit $((failures > 0))
