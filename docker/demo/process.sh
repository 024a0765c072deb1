# SPDX-License-Identifier: AGPL-3.0-only
# shellcheck shell=bash
# Sourced by demo.sh: processes that outlive it, and ports.
#
# A process is remembered as "PID STARTTIME BOOT" in a file. It is the same process only if all three agree, so that a pid
# that the system has given to another program since is never signalled.

boot_id=$(</proc/sys/kernel/random/boot_id)

# Sets started_at to the start time of a process in clock ticks; fails when it is gone or a zombie. No subshells here, since
# waiting asks often.
process_look() { # PID
    local stat
    { read -r -d '' stat <"/proc/$1/stat"; } 2>/dev/null || [[ -n ${stat:-} ]] || return 1
    stat=${stat##*) } # the name may hold anything
    [[ $stat != Z* ]] || return 1
    read -r -a stat <<<"$stat"
    # shellcheck disable=SC2154  # an array by now
    started_at=${stat[19]}
}

# Sets pid to that of the process that FILE remembers; fails when it does not run.
process_find() { # FILE
    local started boot
    { read -r pid started boot <"$1"; } 2>/dev/null || return 1
    [[ $boot == "$boot_id" ]] && process_look "$pid" && [[ $started_at == "$started" ]]
}

process_runs() { # FILE
    local pid started_at
    process_find "$1"
}

# process_spawn FILE LOG COMMAND...: starts it in a session of its own and remembers it.
process_spawn() {
    local file=$1 log=$2 pid started_at
    shift 2
    setsid "$@" </dev/null >>"$log" 2>&1 9>&- &
    pid=$!
    process_look "$pid" || return 1
    echo "$pid $started_at $boot_id" >"$file"
}

# Sends SIGNAL and waits until the process and its children are gone; after SECONDS it is killed.
process_stop() { # FILE SIGNAL SECONDS
    local file=$1 signal=$2 seconds=$3 pid started_at children child
    if process_find "$file"; then
        read -r -a children <<<"$(cat "/proc/$pid/task/$pid/children" 2>/dev/null)" || true
        kill -s "$signal" "$pid" 2>/dev/null || true
        if ! await "$seconds" process_gone "$file"; then
            kill -s KILL "$pid" 2>/dev/null || true
            await 10 process_gone "$file" || true
        fi
        for child in ${children[@]+"${children[@]}"}; do
            await 5 pid_gone "$child" || true
        done
    fi
    rm -f "$file"
}

process_gone() { # FILE
    ! process_runs "$1"
}

pid_gone() { # PID
    local started_at
    ! process_look "$1"
}

# await SECONDS COMMAND...: until the command succeeds; fails when time is over.
await() {
    local deadline=$((SECONDS + $1)) tries=0
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        nap $((++tries < 10 ? 1 : 4))
    done
}

port_open() { # PORT
    { : 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null
}

# Ports that something listens on, one a line.
ports_taken() {
    local address state port
    while read -r _ address _ state _; do
        if [[ $state == 0A ]]; then
            port=$((16#${address##*:}))
            echo "$port"
        fi
    done < <(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
}

declare -A ports=()

ports_load() { # FILE
    local name port
    ports=()
    if [[ -f $1 ]]; then
        while read -r name port; do
            ports[$name]=$port
        done <"$1"
    fi
}

# ports_choose FILE NAME...: a port for every name that has none yet or whose port is taken, and writes FILE. Below the range
# that the system gives to outgoing connections; where the search begins depends on the directory, so that several
# demos on one machine seldom meet.
ports_choose() {
    local file=$1 name taken next
    shift
    taken=" $(ports_taken | tr '\n' ' ') "
    next=$((20000 + 16#$instance % 10000))
    for name in "$@"; do
        if [[ -n ${ports[$name]:-} && $taken != *" ${ports[$name]} "* ]]; then
            continue
        fi
        while [[ $taken == *" $next "* || " ${ports[*]} " == *" $next "* ]]; do
            next=$((next + 1))
        done
        ports[$name]=$next
    done
    for name in "$@"; do
        echo "$name ${ports[$name]}"
    done >"$file"
}
