#!/usr/bin/env bash
# make kill-session: the server of the session drains as with Ctrl-C, then the session ends.
set -euo pipefail
cd "$(dirname "$0")/.."

session=${SESSION:-fds}
tmux=(tmux -L "$session")

if ! "${tmux[@]}" has-session -t "=$session" 2>/dev/null; then
    echo "There is no session $session; make start-all opens one."
    exit 0
fi
# The port is the one the session was started with, whatever this shell says.
port=$("${tmux[@]}" show-environment -g FDS_PORT | cut -d= -f2)
pid=$("${VENV:-.venv}/bin/python" scripts/server_process.py pid --port "$port" 2>/dev/null) || pid=
for pane in $("${tmux[@]}" list-panes -s -t "=$session" -F '#{pane_id}'); do
    "${tmux[@]}" send-keys -t "$pane" C-c
done
# Requests under way may take ten seconds; then the prices are closed.
for _ in {1..300}; do
    [ -n "$pid" ] && [ -d "/proc/$pid" ] || break
    sleep 0.1
done
"${tmux[@]}" kill-session -t "=$session"
echo "Session $session ended."
