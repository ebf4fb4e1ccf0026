#!/usr/bin/env bash
# make start-all: a tmux session of four panes on a tmux server of its own, so that no other
# session is touched: the service, both load generators, htop on the service's process.
set -euo pipefail
cd "$(dirname "$0")/.."

export FDS_PORT=${FDS_PORT:-8000}
session=${SESSION:-fds} python="${VENV:-.venv}/bin/python"
tmux=(tmux -L "$session" -f .tmux.conf)
die() { printf '%s\n' "$*" >&2; exit 1; }

command -v tmux >/dev/null || die "make start-all needs tmux: apt install tmux"
command -v htop >/dev/null || die "make start-all needs htop for its fourth pane: apt install htop"
end="make kill-session"
if [ "$session" != fds ]; then end+=" SESSION=$session"; fi
if "${tmux[@]}" has-session -t "=$session" 2>/dev/null; then
    die "The session is there already: tmux -L $session attach, or $end."
fi
if pid=$("$python" scripts/server_process.py pid 2>/dev/null); then
    die "Port $FDS_PORT is taken by process $pid; end it, or choose another: make start-all FDS_PORT=…"
fi

# The panes are makes of their own: what this make was called with reaches them as FDS_* only.
unset MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES args

# A pane goes on as a shell when its command ends or is interrupted, so that reports stay readable.
pane() { printf 'trap : INT; %s; trap - INT; exec %q' "$1" "${SHELL:-/bin/bash}"; }
ready="$python scripts/server_process.py wait"

# Loads long enough to be watched; Ctrl-C in their panes ends them with a report.
server=$("${tmux[@]}" new-session -d -s "$session" -x 200 -y 50 -P -F '#{pane_id}' "$(pane 'make run')")
stats=$("${tmux[@]}" split-window -h -t "$server" -P -F '#{pane_id}' "$(pane "$ready && make stats args='--count 1000000'")")
batches=$("${tmux[@]}" split-window -v -t "$server" -P -F '#{pane_id}' "$(pane "$ready && make batches args='--count 50000'")")
htop=$("${tmux[@]}" split-window -v -t "$stats" -P -F '#{pane_id}' "$(pane "$ready && make monitor")")
"${tmux[@]}" select-pane -t "$htop" -T "htop: the server's process"
"${tmux[@]}" select-pane -t "$batches" -T "make batches"
"${tmux[@]}" select-pane -t "$stats" -T "make stats"
"${tmux[@]}" select-pane -t "$server" -T "make run: http://127.0.0.1:$FDS_PORT"

if [ -t 0 ] && [ -t 1 ]; then
    # Inside another tmux, a session on a server of its own may be shown all the same.
    exec env -u TMUX "${tmux[@]}" attach -t "=$session"
fi
echo "Session $session runs. See it: tmux -L $session attach. End it: $end."
