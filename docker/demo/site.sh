# SPDX-License-Identifier: AGPL-3.0-only
# shellcheck shell=bash
# Sourced by demo.sh: the parts of a site. Each has PART_start, which returns when the part serves, and is stopped by its
# process id. Everything of a site lies in $demo/<Site>/.

parts=(database broker application agent)

part_file() { # SITE PART
    echo "$demo/$1/$2.pid"
}

part_port() { # SITE PART
    case $2 in
    database) echo "${ports[$1.database]}" ;;
    broker) echo "${ports[$1.amqp]}" ;;
    application) echo "${ports[$1.inventory]}" ;;
    agent) echo "${ports[$1.http]}" ;;
    esac
}

part_runs() { # SITE PART
    process_runs "$(part_file "$1" "$2")"
}

# The part's process runs and its port answers; or its process has ended, so that waiting longer is no use.
part_settled() { # SITE PART
    ! part_runs "$1" "$2" || port_open "$(part_port "$1" "$2")"
}

part_wait() { # SITE PART SECONDS
    if ! await "$3" part_settled "$1" "$2" || ! part_runs "$1" "$2"; then
        echo "$1: the $2 does not start; the end of its log:"
        tail -n 30 "$demo/$1/$2.log"
        return 1
    fi
}

part_start() { # SITE PART
    local site=$1 part=$2 port
    if part_runs "$site" "$part"; then
        part_wait "$site" "$part" 60
        return
    fi
    port=$(part_port "$site" "$part")
    if port_open "$port"; then
        echo "$site: port $port of the $part is taken by another program. Stop all (./demo.sh stop) and start" \
            "again to choose another one."
        return 1
    fi
    mkdir -p "$demo/$site"
    "${part}_start" "$site"
}

part_stop() { # SITE PART
    local signal=TERM
    if [[ $2 == database ]]; then
        signal=INT # PostgreSQL's fast shutdown
    fi
    process_stop "$(part_file "$1" "$2")" "$signal" 30
}

part_kill() { # SITE PART
    process_stop "$(part_file "$1" "$2")" KILL 10
}

# Secrets are made once and kept in a file of the site's, mode 0600.
secret() { # SITE NAME
    local file=$demo/$1/secret.$2 new
    if [[ ! -s $file ]]; then
        new=$(mktemp "$file.XXXXXX")
        head -c 24 /dev/urandom | base64 | tr '+/' '-_' >"$new"
        mv "$new" "$file"
    fi
    cat "$file"
}

# --- database ---

# PostgreSQL refuses to run as root: then it runs as the user of its package.
as_postgres=()
if [[ $EUID -eq 0 ]]; then
    as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups --)
fi

# Where clusters lie: in the demo's directory, unless PostgreSQL's user may not enter it.
database_home() { # SITE
    local home=$demo
    if [[ $EUID -eq 0 ]]; then
        chmod 711 "$demo" "$demo/$1"
        if ! "${as_postgres[@]}" test -x "$demo"; then
            home=/var/tmp/cheops-demo-$instance
        fi
    fi
    echo "$home/$1/database"
}

database_admin() { # SITE DATABASE: runs SQL from standard input
    PGPASSWORD=$(secret "$1" database-admin) "$pg_bin/psql" -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 \
        -p "$(part_port "$1" database)" -U postgres -d "$2"
}

database_create() { # SITE HOME
    local site=$1 home=$2
    if [[ $home != "$demo"/* ]]; then
        mkdir -p "${home%/*}"
        chmod 711 "${home%/*/*}" "${home%/*}"
    fi
    rm -rf "$home" # what an interrupted start left
    mkdir -m 700 "$home"
    secret "$site" database-admin >"$home/password"
    if [[ $EUID -eq 0 ]]; then
        chown -R postgres:postgres "$home"
    fi
    (cd / && "${as_postgres[@]}" "$pg_bin/initdb" -D "$home/data" -U postgres --pwfile="$home/password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-instructions)
    rm "$home/password"
}

database_start() { # SITE
    local site=$1 home pg_bin
    pg_bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    home=$(database_home "$site")
    if [[ ! -f $demo/$site/database.created ]]; then
        database_create "$site" "$home"
    fi
    database_unlock "$home/data/postmaster.pid"
    # No unix socket: the path of one is bounded to 107 bytes, a checkout's is not.
    (cd / && process_spawn "$(part_file "$site" database)" "$demo/$site/database.log" \
        "${as_postgres[@]}" "$pg_bin/postgres" -D "$home/data" -c listen_addresses=127.0.0.1 \
        -c port="$(part_port "$site" database)" -c unix_socket_directories= -c shared_buffers=64MB \
        -c max_connections=40 -c fsync=on -c full_page_writes=on -c max_wal_size=512MB -c autovacuum_naptime=30s \
        -c logging_collector=off -c log_destination=stderr -c jit=off)
    part_wait "$site" database 60
    await 30 database_answers "$site"
    if [[ ! -f $demo/$site/database.created ]]; then
        database_admin "$site" postgres <<SQL
CREATE ROLE cheops LOGIN PASSWORD '$(secret "$site" database)';
CREATE DATABASE cheops OWNER cheops;
SQL
        : >"$demo/$site/database.created"
    fi
}

# PostgreSQL takes the zombie of a killed server for a running one.
database_unlock() { # FILE
    local pid started_at
    if { read -r pid <"$1"; } 2>/dev/null && ! process_look "$pid"; then
        rm -f "$1"
    fi
}

database_answers() { # SITE
    "$pg_bin/pg_isready" -q -h 127.0.0.1 -p "$(part_port "$1" database)"
}

dsn() { # SITE
    echo "postgresql://cheops:$(secret "$1" database)@127.0.0.1:$(part_port "$1" database)/cheops"
}

# --- broker ---

# What broker-config writes for all sites: their links go through the relay's ports.
brokers_configure() {
    local a b peers separator=
    {
        printf '{"sites": {'
        for a in "${sites[@]}"; do
            peers=
            for b in "${sites[@]}"; do
                if [[ $a != "$b" ]]; then
                    peers+="${peers:+, }\"$b\": \"127.0.0.1:${ports[link.$a.$b]}\""
                fi
            done
            printf '%s\n "%s": {"listen": "127.0.0.1:%s", "peers": {%s}, "extra": [%s, %s, %s, %s, %s]}' "$separator" \
                "$a" "${ports[$a.amqp]}" "$peers" '"log.console = true"' '"log.file = false"' \
                '"vm_memory_high_watermark.absolute = 512MB"' '"disk_free_limit.absolute = 64MB"' \
                '"collect_statistics = none"'
            separator=,
        done
        printf '\n}}\n'
    } >"$demo/brokers.json"
    "$root/broker-config/generate" "$demo/brokers.json" "$demo/brokers"
}

# A node loads some 2000 modules and looks for each in the folder of every plugin that it could have. A directory with links
# to those that it needs takes a third of the processor time off a start (measured: 6 instead of 9 s).
plugins_link() {
    local known=(/usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins)
    local wanted=(rabbit rabbitmq_prelaunch rabbitmq_shovel) name folder
    rm -rf "$demo/plugins"
    mkdir "$demo/plugins"
    while [[ ${#wanted[@]} -gt 0 ]]; do
        name=${wanted[0]}
        wanted=("${wanted[@]:1}")
        folder=$(compgen -G "${known[0]}/$name-[0-9]*" || true)
        if [[ -n $folder && ! -e $demo/plugins/${folder##*/} ]]; then
            ln -s "$folder" "$demo/plugins/"
            # What the application needs, as its description says: {applications,[kernel,stdlib,ranch]}
            mapfile -t -O "${#wanted[@]}" wanted < <(tr -d ' \n' <"$folder/ebin/$name.app" |
                sed -n 's/.*{applications,\[\([^]]*\)\]}.*/\1/p' | tr ',' '\n')
        fi
    done
}

broker_start() { # SITE
    local site=$1 config=$demo/brokers/$1 home=$demo/$1/broker
    mkdir -p "$home/home" "$home/log"
    # RUNNING_UNDER_SYSTEMD: the script becomes the node instead of staying its parent, so that the pid is the node's.
    process_spawn "$(part_file "$site" broker)" "$demo/$site/broker.log" \
        env -i PATH="$PATH" HOME="$home/home" LANG=C.UTF-8 RUNNING_UNDER_SYSTEMD=true \
        ERL_EPMD_PORT="${ports[epmd]}" ERL_EPMD_ADDRESS=127.0.0.1 \
        RABBITMQ_NODENAME="cheops-${site,,}-$instance@localhost" RABBITMQ_DIST_PORT="${ports[$site.dist]}" \
        RABBITMQ_PLUGINS_DIR="$demo/plugins" RABBITMQ_CONFIG_FILE="$config/rabbitmq.conf" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$config/enabled_plugins" \
        RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_MNESIA_BASE="$home/mnesia" RABBITMQ_LOG_BASE="$home/log" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 +A 8 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}" \
        /usr/lib/rabbitmq/bin/rabbitmq-server
    part_wait "$site" broker 120
}

# USER: agent, integrator or admin.
amqp_uri() { # SITE USER
    /usr/bin/python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' \
        "$demo/brokers/$1/credentials.json" "$2"
}

# --- application: a small REST service, the "inventory" of the examples ---

application_start() { # SITE
    process_spawn "$(part_file "$1" application)" "$demo/$1/application.log" /usr/bin/python3 \
        "$root/tests/lib/inventory.py" "${ports[$1.inventory]}" "$demo/$1/inventory"
    part_wait "$1" application 20
}

# --- agent ---

agent_configure() { # SITE
    local site=$1 other
    echo "demo:$(secret "$site" token)" >"$demo/$site/token"
    {
        cat <<CONF
# Written by demo.sh at every start.
[agent]
site = $site
state_dir = $demo/$site/agent
log_level = info
migrate = yes

[database]
dsn = $(dsn "$site")

[broker]
uri = $(amqp_uri "$site" agent)

[http]
listen = 127.0.0.1:${ports[$site.http]}
token_file = $demo/$site/token

[shell]
# Any command may be run, by whoever holds the token. A real site lists the few commands that its applications need:
# allow = kubectl, openstack
allow = *
path = /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
runner = $bin/cheops-runner

[service.inventory]
url = http://127.0.0.1:${ports[$site.inventory]}
CONF
        for other in "${sites[@]}"; do
            if [[ $other != "$site" ]]; then
                printf '\n[site.%s]\nlink = shovel\n' "$other"
            fi
        done
    } >"$demo/$site/agent.conf"
}

agent_start() { # SITE
    agent_configure "$1"
    process_spawn "$(part_file "$1" agent)" "$demo/$1/agent.log" \
        "$bin/cheops-agent" -c "$demo/$1/agent.conf"
    part_wait "$1" agent 30
}

api_url() { # SITE
    echo "http://demo:$(secret "$1" token)@127.0.0.1:${ports[$1.http]}"
}

agent_ready() { # SITE
    curl -fsS -m 5 -o /dev/null "$(api_url "$1")/readyz" 2>/dev/null
}

# The agent has heard all other sites.
agent_linked() { # SITE
    [[ $(curl -fsS -m 5 "$(api_url "$1")/metrics" 2>/dev/null) == *"cheops_sites_up{site=\"$1\"} $((${#sites[@]} - 1))"* ]]
}

# Commands outlive the agent; when all stops, so do they. Their runners are known by the files of this demo that they hold.
runners_stop() {
    local entry name
    for entry in /proc/[0-9]*; do
        if { read -r name <"$entry/comm"; } 2>/dev/null && [[ $name == cheops-runner ]] &&
            [[ $(readlink "$entry/cwd" "$entry/fd/"* 2>/dev/null) == *"$demo/"* ]]; then
            kill "${entry#/proc/}" 2>/dev/null || true
        fi
    done
}

# --- what the sites share: the port mapper of Erlang, and the links between the brokers ---

infrastructure_start() {
    local a b
    if ! process_runs "$demo/epmd.pid"; then
        plugins_link
        process_spawn "$demo/epmd.pid" "$demo/epmd.log" \
            env ERL_EPMD_RELAXED_COMMAND_CHECK=1 epmd -port "${ports[epmd]}" -address 127.0.0.1
        await 10 port_open "${ports[epmd]}"
    fi
    if ! process_runs "$demo/relay.pid"; then
        for a in "${sites[@]}"; do
            for b in "${sites[@]}"; do
                if [[ $a != "$b" ]]; then
                    echo "$a $b ${ports[link.$a.$b]} ${ports[$b.amqp]}"
                fi
            done
        done >"$demo/links"
        rm -f "$demo/cuts.applied"
        [[ -f $demo/cuts ]] || : >"$demo/cuts"
        process_spawn "$demo/relay.pid" "$demo/relay.log" \
            "$bin/cheops-relay" "$demo/links" "$demo/cuts" "$demo/cuts.applied"
        await 10 cuts_applied
    fi
}

cuts_applied() {
    cmp -s "$demo/cuts" "$demo/cuts.applied"
}

# Replaces the list of cut pairs by standard input, and waits until it has effect.
cuts_apply() {
    local pid started_at
    cat >"$demo/cuts.new"
    mv "$demo/cuts.new" "$demo/cuts"
    if process_find "$demo/relay.pid"; then
        kill -s HUP "$pid"
        await 10 cuts_applied
    fi
}
