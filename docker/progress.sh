# SPDX-License-Identifier: AGPL-3.0-only
# shellcheck shell=bash
# Sourced by demo.sh and test.sh: long steps tell how long they have been going on. A line that is updated on a terminal,
# plain lines in a pipe.

step_pid=
exec {silence}<> <(:) # a pipe in which nothing ever comes

# Waits so many tenths of a second, without a process for it: waiting asks often.
nap() {
    read -r -t "0.$1" -u "$silence" || true
}

# say TEXT: a line of its own.
say() {
    printf '%s\n' "$*"
}

step_line() { # TITLE BEGAN_SECONDS
    local elapsed=$((SECONDS - $2))
    if [[ -t 1 ]]; then
        printf '\r\033[K%s ... %d s' "$1" "$elapsed"
    elif ((elapsed == 2 || (elapsed > 0 && elapsed % 15 == 0))); then
        printf '%s ... %d s\n' "$1" "$elapsed"
    fi
}

# step TITLE LOG COMMAND...: runs the command with its output in LOG. When it fails, shows the end of LOG and returns its
# status.
step() {
    local title=$1 log=$2 began=$SECONDS status=0 last=-1
    shift 2
    : >"$log"
    "$@" >>"$log" 2>&1 </dev/null &
    step_pid=$!
    while kill -0 "$step_pid" 2>/dev/null; do
        if ((SECONDS != last)); then
            last=$SECONDS
            step_line "$title" "$began"
        fi
        nap 2
    done
    wait "$step_pid" || status=$?
    step_pid=
    if [[ -t 1 ]]; then
        printf '\r\033[K'
    fi
    if ((status == 0)); then
        say "$title: $((SECONDS - began)) s"
    else
        say "$title: failed (status $status). The end of $log:"
        tail -n 40 "$log"
    fi
    return "$status"
}

# Ends a step that is going on, for traps.
step_stop() {
    if [[ -n $step_pid ]]; then
        kill "$step_pid" 2>/dev/null || true
        step_pid=
    fi
}
