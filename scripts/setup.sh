#!/usr/bin/env bash
# Makes the virtual environment, if need be, and installs one lock file and the project into it.
#
#   scripts/setup.sh VENV LOCK     LOCK is run, load, monitor or dev: requirements/LOCK.txt
#   scripts/setup.sh VENV          only says "unfit" when the environment has to be made anew
#   PYTHON=/path/to/python         the interpreter to make the environment with
#
# Nothing is installed whose hash is not in the lock file: the project's own build tools are in
# there too, and the project is installed last with --no-deps and --no-build-isolation.
set -euo pipefail

venv=$1 lock=${2:-}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

die() { printf '%s\n' "$*" >&2; exit 1; }

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        fits "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.11 or newer."
        command -v "$PYTHON"
        return
    fi
    local candidate  # 3.13 first; a pyenv shim may exist without its version, so each is tried
    for candidate in python3.13 "$HOME"/.pyenv/versions/3.13*/bin/python3.13 \
        python3 python python3.14 python3.12 python3.11 "$HOME"/.pyenv/versions/3.1[124]*/bin/python; do
        if fits "$candidate"; then command -v "$candidate"; return; fi
    done
    die "Python 3.11 or newer is needed (3.13 is best) and none was found." \
        "Install it, or name it: make PYTHON=/path/to/python3.13 …"
}

version() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null; }

# An environment that was copied or moved, whose interpreter has gone, or is another than PYTHON
# asks for, is made anew.
is_fit() {
    [ "$(cat "$venv/.root" 2>/dev/null)" = "$root" ] && fits "$venv/bin/python" &&
        { [ -z "${PYTHON:-}" ] || [ "$(version "$PYTHON")" = "$(version "$venv/bin/python")" ]; }
}

make_venv() {
    local python mark=$venv/.made-by-make
    # Someone's own environment is not ours to remove.
    if [ -n "$(ls -A "$venv" 2>/dev/null)" ] && [ ! -f "$mark" ]; then
        die "$venv was not made by this Makefile." \
            "Remove it, or name another: make VENV=.venv-mine …"
    fi
    python=$(find_python)
    echo "Making $venv with $("$python" --version) …"
    rm -rf "$venv"
    mkdir -p "$venv"
    touch "$mark"
    # Debian's python3 comes without ensurepip unless python3-venv is there; its pip can still
    # install into the environment from outside.
    if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
        "$python" -m venv --without-pip "$venv"
        "$python" -m pip --version >/dev/null 2>&1 || die "$python has neither venv's pip nor" \
            "pip itself. Install one, e.g. apt install python3-venv, and run this again."
        echo "$python" >"$venv/.outer-pip"
    fi
    pwd >"$venv/.root"  # last, so that a creation cut short is begun again
}

pip() {
    local command=("$venv/bin/python" -m pip)
    if [ -f "$venv/.outer-pip" ]; then
        command=("$(cat "$venv/.outer-pip")" -m pip --python "$venv/bin/python")
    fi
    PIP_REQUIRE_VIRTUALENV=0 "${command[@]}" --disable-pip-version-check --no-input "$@"
}

# One line that counts up on a terminal, and silence elsewhere: pip's own log is in $venv/pip.log.
progress() {
    local line total=$1 n=0
    while IFS= read -r line; do
        case $line in
            Collecting* | "Requirement already satisfied"*) n=$((n + 1)) ;;
            "Installing collected packages"*) line="unpacking" ;;
            *) continue ;;
        esac
        [ -t 1 ] || continue
        line=${line#Collecting } line=${line#Requirement already satisfied: }
        printf '\r\033[K  %d of %d  %s' "$((n < total ? n : total))" "$total" "${line%%[=; ]*}"
    done
    if [ -t 1 ]; then printf '\r\033[K'; fi
}

install() {
    local total
    total=$(grep -c == "requirements/$lock.txt")
    echo "Installing requirements/$lock.txt: $total packages; the first time takes a minute or two …"
    if ! pip install --require-hashes --only-binary :all: -r "requirements/$lock.txt" 2>&1 |
        tee "$venv/pip.log" | progress "$total"; then
        tail -n 15 "$venv/pip.log" >&2
        die "Installing requirements/$lock.txt failed; the whole log is in $venv/pip.log."
    fi
    pip install --quiet --no-deps --no-build-isolation --no-index --editable .
}

if [ -z "$lock" ]; then
    is_fit || echo unfit
    exit 0
fi
# Two targets started side by side on a fresh clone set up one after the other.
mkdir -p .run
exec 9>.run/setup.lock
if command -v flock >/dev/null; then flock 9; fi
is_fit || make_venv
install

# The dev lock holds everything the others hold, in the same versions.
touch "$venv/.installed-run" "$venv/.installed-$lock"
if [ "$lock" = dev ]; then touch "$venv/.installed-load" "$venv/.installed-monitor"; fi
echo "Ready: $("$venv/bin/python" --version) in $venv."
