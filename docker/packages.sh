# SPDX-License-Identifier: AGPL-3.0-only
# shellcheck shell=bash
# Sourced by demo.sh and test.sh: installs the packages of packages.txt that are missing.
#
# No service is started by that: while packages are installed, /usr/sbin/policy-rc.d forbids it, and what stood there before
# is put back whatever happens. Needs root, or sudo for these commands only.

policy=/usr/sbin/policy-rc.d

# packages_missing KIND...: names of packages of these kinds that are not installed, one a line.
packages_missing() {
    local kinds=" $* " package kind
    while read -r package kind; do
        if [[ $package == '#'* || $kinds != *" $kind "* ]]; then
            continue
        fi
        if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
            echo "$package"
        fi
    done <"$(dirname "${BASH_SOURCE[0]}")/packages.txt"
}

# The part that runs as root: in one process, so that the policy is put back when it ends.
packages_install_as_root() {
    local saved=
    if [[ -e $policy || -L $policy ]]; then
        saved=$(mktemp -d)
        cp -a "$policy" "$saved/policy-rc.d"
    fi
    # shellcheck disable=SC2064  # the value of now
    trap "rm -f '$policy'; [ -z '$saved' ] || { cp -a '$saved/policy-rc.d' '$policy'; rm -rf '$saved'; }" EXIT
    trap 'exit 130' INT TERM HUP
    rm -f "$policy"
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# packages_install PACKAGE...
packages_install() {
    local script
    script="set -eu; policy=$policy; $(declare -f packages_install_as_root); packages_install_as_root \"\$@\""
    if [[ $EUID -eq 0 ]]; then
        bash -c "$script" packages "$@"
    elif command -v sudo >/dev/null; then
        sudo bash -c "$script" packages "$@"
    else
        echo "these packages are missing, and installing them needs root or sudo: $*" >&2
        return 1
    fi
}
