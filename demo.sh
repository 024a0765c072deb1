#!/usr/bin/env bash
# SPDX-License-Identifier: AGPL-3.0-only
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: ./demo.sh [VERB ...]

Three sites on this machine, each with its own RabbitMQ, PostgreSQL, application and agent.

  ./demo.sh                    install what is missing, build, start Nantes, Rennes and Paris, run one operation
  ./demo.sh start              the same without the operation
  ./demo.sh stop               stop all
  ./demo.sh status             what runs; the exit status is 0 only when all does
  eval "$(./demo.sh env)"      exports for a shell: PATH with cheops, CHEOPS_API (Nantes), and for every site
                               CHEOPS_API_<SITE>, CHEOPS_AMQP_<SITE> (an integrator's), CHEOPS_AMQP_ADMIN_<SITE>,
                               CHEOPS_DSN_<SITE>
  ./demo.sh stop SITE [PART]   stop a site or a part of it: agent, broker, database or application
  ./demo.sh start SITE [PART]  start it again
  ./demo.sh kill SITE [PART]   end it as a crash would (kill -9)
  ./demo.sh cut A B            cut the link between the brokers of two sites
  ./demo.sh cut A B oneway     only what A sends to B is lost
  ./demo.sh slow A B MS KIB    make it slow: MS ms of delay each way, KIB KiB/s (0: any rate)
  ./demo.sh heal [A B]         restore it; without sites, all links
  ./demo.sh logs SITE [PART]   the end of the logs; on a terminal, follow them

Everything lies in build/demo/ (or $CHEOPS_DEMO_DIR) and is kept between runs: to begin anew, stop, and remove it.
$CHEOPS_DEMO_BIN names a directory with programs to use instead of building them.
TEXT
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
demo=${CHEOPS_DEMO_DIR:-$root/build/demo}
bin=${CHEOPS_DEMO_BIN:-$root/build/release/bin}
sites=(Nantes Rennes Paris)
mask=$(umask)
umask 077 # what the sites keep is nobody else's; programs are built as usual
mkdir -p "$demo"
demo=$(cd "$demo" && pwd)
# Tells the nodes and ports of several demos on one machine apart.
instance=$(printf '%s' "$demo" | sha256sum | cut -c 1-6)

# shellcheck source=docker/packages.sh
source "$root/docker/packages.sh"
# shellcheck source=docker/progress.sh
source "$root/docker/progress.sh"
# shellcheck source=docker/demo/process.sh
source "$root/docker/demo/process.sh"
# shellcheck source=docker/demo/site.sh
source "$root/docker/demo/site.sh"

refuse() {
    echo "demo.sh: $*" >&2
    exit 2
}

# Sets the variable `site` to the known site that the user means.
site_named() { # NAME
    for site in "${sites[@]}"; do
        if [[ ${site,,} == "${1,,}" ]]; then
            return
        fi
    done
    refuse "unknown site '$1'; the sites are ${sites[*]}"
}

# Sets the array `chosen` to the parts that the user means.
parts_named() { # [PART]
    chosen=("${parts[@]}")
    if [[ $# -gt 0 ]]; then
        [[ " ${parts[*]} " == *" $1 "* ]] || refuse "unknown part '$1'; the parts are ${parts[*]}"
        chosen=("$1")
    fi
}

# One change at a time.
lock() {
    exec 9>"$demo/lock"
    if ! flock -n 9; then
        say "waiting for another demo.sh to finish"
        flock 9
    fi
}

install() {
    local missing
    mapfile -t missing < <(packages_missing build run)
    if [[ ${#missing[@]} -gt 0 ]]; then
        say "missing packages: ${missing[*]}"
        step "Installing ${#missing[@]} packages" "$demo/install.log" packages_install "${missing[@]}"
    fi
}

cmake_masked() {
    umask "$mask"
    cmake "$@"
}

build() {
    local log=$demo/build.log
    if [[ -n ${CHEOPS_DEMO_BIN:-} ]]; then
        return
    fi
    if [[ ! -f $root/build/release/build.ninja ]]; then
        step "Configuring" "$log" cmake_masked -S "$root" --preset release
    fi
    step "Building" "$log" cmake_masked --build "$root/build/release" \
        --target cheops-agent cheops-runner cheops cheops-relay
}

ports_prepare() {
    local a b part names=(epmd)
    for a in "${sites[@]}"; do
        names+=("$a.amqp" "$a.dist" "$a.database" "$a.http" "$a.inventory")
        for b in "${sites[@]}"; do
            [[ $a == "$b" ]] || names+=("link.$a.$b")
        done
    done
    # While something of this demo runs, its ports are taken by itself and stay what they are.
    if process_runs "$demo/epmd.pid" || process_runs "$demo/relay.pid"; then
        return
    fi
    for a in "${sites[@]}"; do
        for part in "${parts[@]}"; do
            if part_runs "$a" "$part"; then
                return
            fi
        done
    done
    ports_choose "$demo/ports" "${names[@]}"
    brokers_configure
}

parts_start_together() { # PART...: of all sites, at the same time
    local site part pids=() pid status=0
    for part in "$@"; do
        for site in "${sites[@]}"; do
            part_start "$site" "$part" &
            pids+=($!)
        done
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || status=$?
    done
    return "$status"
}

agents_settled() {
    local site
    for site in "${sites[@]}"; do
        agent_ready "$site" && agent_linked "$site" || return 1
    done
}

start_all() {
    local site home
    install
    build
    ports_prepare
    for site in "${sites[@]}"; do
        mkdir -p "$demo/$site"
    done
    home=$(database_home "${sites[0]}")
    if [[ $home != "$demo"/* ]]; then
        say "The user postgres may not enter $demo: the databases lie in ${home%/*/*}"
    fi
    step "Preparing the links" "$demo/start.log" infrastructure_start
    step "Starting brokers, databases and applications" "$demo/start.log" \
        parts_start_together database broker application
    step "Starting agents" "$demo/start.log" parts_start_together agent
    if ! step "Waiting until the sites hear each other" "$demo/start.log" await 60 agents_settled; then
        say "Some site does not hear the others: see ./demo.sh status (cut links?), ./demo.sh logs SITE."
        return 1
    fi
}

first_operation() {
    local greetings=$demo/greetings command
    mkdir -p "$greetings"
    command="echo hello from \$CHEOPS_SITE | tee $greetings/\$CHEOPS_SITE.txt"
    say ""
    say "\$ cheops --site Nantes exec --id greeting --type set --scope 'Nantes & Rennes & Paris' -- sh -c '$command'"
    export_environment
    cheops --site Nantes exec --id greeting --type set --scope 'Nantes & Rennes & Paris' -- sh -c "$command"
    cat <<TEXT

The sites go on running. What to try next:

  eval "\$(./demo.sh env)"
  cheops op list                                      # what was asked, and how far it is on every site
  cheops show --id greeting -- cat $greetings/Paris.txt
  ./demo.sh cut Nantes Rennes                         # and run a command: Rennes gets it after ./demo.sh heal
  ./demo.sh stop Rennes agent                         # or its broker, its database; start brings it back
  cheops site list
  curl -s -F command='hostname' -F sites='Nantes&Paris' -F type=set "\$CHEOPS_API_NANTES/exec/hosts"
  ./demo.sh status; ./demo.sh stop
TEXT
}

stop_all() {
    local site part
    for site in "${sites[@]}"; do
        part_stop "$site" agent &
    done
    wait
    runners_stop
    for site in "${sites[@]}"; do
        for part in broker database application; do
            part_stop "$site" "$part" &
        done
    done
    wait
    process_stop "$demo/relay.pid" TERM 5
    process_stop "$demo/epmd.pid" TERM 5
}

environment() {
    local site upper
    echo "PATH=$bin:$PATH"
    echo "CHEOPS_API=$(api_url "${sites[0]}")"
    for site in "${sites[@]}"; do
        upper=${site^^}
        echo "CHEOPS_API_$upper=$(api_url "$site")"
        echo "CHEOPS_AMQP_$upper=$(amqp_uri "$site" integrator)"
        echo "CHEOPS_AMQP_ADMIN_$upper=$(amqp_uri "$site" admin)"
        echo "CHEOPS_DSN_$upper=$(dsn "$site")"
    done
}

export_environment() {
    local line
    while read -r line; do
        export "${line?}"
    done < <(environment)
}

status() {
    local site part how file state pid started_at all=0
    printf '%-8s %-12s %-9s %8s  %s\n' SITE PART STATE PID ADDRESS
    for site in "${sites[@]}"; do
        for part in "${parts[@]}"; do
            file=$(part_file "$site" "$part")
            state=running
            if ! process_find "$file"; then
                state=stopped pid=-
            elif ! port_open "$(part_port "$site" "$part")"; then
                state=starting
            fi
            [[ $state == running ]] || all=1
            printf '%-8s %-12s %-9s %8s  %s\n' "$site" "$part" "$state" "$pid" \
                "${ports[epmd]:+127.0.0.1:$(part_port "$site" "$part")}"
        done
    done
    process_runs "$demo/relay.pid" || { all=1 && say "The relay between the brokers does not run."; }
    if [[ -s $demo/cuts ]]; then
        while read -r site part how; do
            say "The link between $site and $part is ${how:-cut}."
        done <"$demo/cuts"
    fi
    return "$all"
}

# The pairs that are not whole, without the given one.
cuts_without() { # A B
    if [[ -f $demo/cuts ]]; then
        grep -vE "^($1 $2|$2 $1)( |\$)" "$demo/cuts" || true
    fi
}

need_started() {
    [[ -n ${ports[epmd]:-} ]] || refuse "the sites have never been started: run ./demo.sh"
}

# Sets the variables `a` and `site` to the two sites that the user means.
pair_named() { # A B
    site_named "$1"
    a=$site
    site_named "$2"
    [[ $a != "$site" ]] || refuse "two different sites are needed"
}

verb_cut() {
    local a how=${3:-}
    [[ $# -eq 2 || ($# -eq 3 && $how == oneway) ]] || refuse "cut needs two sites, and takes 'oneway' after them"
    pair_named "$1" "$2"
    { cuts_without "$a" "$site" && echo "$a $site${how:+ $how}"; } | cuts_apply
    say "The link between $a and $site is cut${how:+ one way: nothing from $a reaches $site}."
}

verb_slow() {
    local a
    [[ $# -eq 4 && $3 =~ ^[0-9]{1,6}$ && $4 =~ ^[0-9]{1,6}$ ]] ||
        refuse "slow needs two sites, a delay in ms and a rate in KiB/s"
    pair_named "$1" "$2"
    { cuts_without "$a" "$site" && echo "$a $site slow $3 $4"; } | cuts_apply
    say "The link between $a and $site is slow: $3 ms each way, $4 KiB/s."
}

verb_heal() {
    local a
    if [[ $# -eq 0 ]]; then
        cuts_apply </dev/null
        say "All links are whole."
        return
    fi
    [[ $# -eq 2 ]] || refuse "heal needs two sites, or none for all"
    pair_named "$1" "$2"
    cuts_without "$a" "$site" | cuts_apply
    say "The link between $a and $site is whole."
}

site_start() { # SITE PART...
    local site=$1 part
    shift
    infrastructure_start
    for part in "$@"; do
        part_start "$site" "$part"
    done
}

verb_start() {
    if [[ $# -eq 0 ]]; then
        start_all
        return
    fi
    need_started
    site_named "$1"
    parts_named "${@:2}"
    step "Starting ${chosen[*]} of $site" "$demo/start.log" site_start "$site" "${chosen[@]}"
}

# stop and kill: agents first, so that they see no failures that are none.
verb_end() { # stop|kill SITE [PART]
    local index
    need_started
    site_named "$2"
    parts_named "${@:3}"
    for ((index = ${#chosen[@]} - 1; index >= 0; index--)); do
        "part_$1" "$site" "${chosen[index]}"
    done
    say "$site: ${chosen[*]} ended."
}

verb_logs() {
    local part files=() follow=()
    [[ $# -gt 0 ]] || refuse "logs needs a site"
    site_named "$1"
    parts_named "${@:2}"
    for part in "${chosen[@]}"; do
        files+=("$demo/$site/$part.log")
    done
    [[ ! -t 1 ]] || follow=(-f)
    tail -n 100 "${follow[@]}" "${files[@]}"
}

main() {
    local verb=${1:-} site chosen
    shift || true
    ports_load "$demo/ports"
    trap 'step_stop; exit 130' INT TERM
    case $verb in
    '')
        lock
        start_all
        first_operation
        ;;
    start)
        lock
        verb_start "$@"
        ;;
    stop | kill)
        lock
        if [[ $# -gt 0 ]]; then
            verb_end "$verb" "$@"
        elif [[ $verb == stop ]]; then
            step "Stopping" "$demo/stop.log" stop_all
        else
            refuse "kill needs a site"
        fi
        ;;
    status) status ;;
    env)
        need_started
        environment | while IFS='=' read -r name value; do
            printf 'export %s=%q\n' "$name" "$value"
        done
        ;;
    cut | slow | heal)
        lock
        need_started
        "verb_$verb" "$@"
        ;;
    logs) verb_logs "$@" ;;
    -h | --help | help) usage ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
}

main "$@"
