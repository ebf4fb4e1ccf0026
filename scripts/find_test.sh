#!/usr/bin/env bash
# Prints the path of a file of tests, given its path or its name alone.
#
#   scripts/find_test.sh test_running_stats.py     tests/engine/test_running_stats.py
set -euo pipefail
cd "$(dirname "$0")/.."

file=${1#tests/}
if [ -e "tests/$file" ]; then
    echo "tests/$file"
    exit
fi
mapfile -t found < <(find tests -name "${file##*/}" | sort)
case ${#found[@]} in
    1) echo "${found[0]}" ;;
    0) echo "No file of tests is called $file. All files: find tests -name 'test_*.py'" >&2; exit 2 ;;
    *) echo "Several files of tests are called $file; name one of: ${found[*]}" >&2; exit 2 ;;
esac
