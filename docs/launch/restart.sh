#!/usr/bin/env bash
# Runs a command on this host again for as long as its status says that trying again may help: 75, another host was
# lost or the run hung; 134, 137, 139, this process was killed or crashed. Each host has such a loop, so that after a
# loss all of them meet anew. Give a command with --resume. TRIES and PAUSE (seconds) may be set.
#
#     bash docs/launch/restart.sh python -m experiments.deeplab_voc voc_pod --workdir runs/voc --resume
set -uo pipefail

for try in $(seq "${TRIES:-20}"); do
    # In the background, so that a SIGTERM to this script goes on to the command, which then saves and stops.
    "$@" &
    child=$!
    trap 'kill -TERM "$child"' TERM
    wait "$child"
    status=$?
    if kill -0 "$child" 2> /dev/null; then # the signal has ended the first wait
        wait "$child"
        status=$?
    fi
    case "$status" in
        75 | 134 | 137 | 139) echo "status $status at try $try; starting again" >&2 ;;
        *) exit "$status" ;;
    esac
    sleep "${PAUSE:-10}"
done
exit "$status"
