#!/usr/bin/env bash
# SPDX-License-Identifier: AGPL-3.0-only
# usage: symbols.sh LIBRARY: fails when the library calls a clock, randomness, a file, a socket or the log.
set -euo pipefail

forbidden='open|openat|creat|fopen|read|write|pread|pwrite|close|socket|connect|send|sendto|sendmsg|recv|recvfrom|poll|select|'
forbidden+='epoll_wait|ioctl|fcntl|printf|fprintf|vfprintf|puts|putchar|perror|syslog|getenv|time|clock|clock_gettime|'
forbidden+='gettimeofday|localtime|gmtime|sleep|usleep|nanosleep|getrandom|rand|random|arc4random|fork|execve|system|'
forbidden+='popen|unlink|rename|mkdir|chp_log_[a-z_]+|chp_clock_[a-z_]+'

# With a libc name in its fortified form, too.
found=$(nm -u "$1" 2>/dev/null | sed -n 's/^ *U //p' | grep -E "^(__)?($forbidden)(_chk|64)?(@.*)?$" | sort -u || true)
if [[ -n $found ]]; then
    echo "$1 must be free of input, output, clocks and randomness, but calls:" "$found"
    exit 1
fi
