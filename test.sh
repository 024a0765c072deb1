#!/usr/bin/env bash
# SPDX-License-Identifier: AGPL-3.0-only
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: ./test.sh [--quick] [PART ...]

Installs what is missing, builds, runs the tests, ends with "N passed, N failed"; the exit status is 0 only when none failed.

Parts (default: all):
  lint     formatting, clang-tidy, headers that compile alone, scripts, sizes
  unit     unit tests, contract suites and link probes with gcc; unit tests and contract suites under ASan and UBSan (clang)
  sim      simulated sites under faults of 2,000 seeds; tests/sim/README.md says what must hold
  fuzz     every fuzz target for a few seconds, from its corpus
  system   three sites with real brokers and databases (its own, beside those of demo.sh)
--quick leaves out clang-tidy, the sanitizers, the simulator, fuzzing and the system tests.
Further arguments after -- go to pytest, e.g. ./test.sh system -- -k poison
TEXT
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$root"
out=$root/build/test
jobs=$(nproc)
passed=0
failed=0
quick=
dev_built=
pytest_arguments=()
export CTEST_PARALLEL_LEVEL=$jobs

# shellcheck source=docker/packages.sh
source docker/packages.sh
# shellcheck source=docker/progress.sh
source docker/progress.sh

# count TITLE PASSED FAILED [SKIPPED]
count() {
    passed=$((passed + $2))
    failed=$((failed + $3))
    say "  $1: $2 passed, $3 failed${4:+, $4 skipped}"
}

# A step that is a check of its own, such as a build.
check() { # TITLE LOG COMMAND...
    if step "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        return 1
    fi
}

# Counts what a JUnit report says. A report that is missing or empty is a failure: something did not even run.
count_report() { # TITLE FILE
    local title=$1 suite tests bad skipped
    suite=$(grep -m 1 -A 20 '<testsuite ' "$2" 2>/dev/null | tr '\n\t' '  ' | sed 's/.*<testsuite \([^>]*\)>.*/\1/') || true
    attribute() {
        local value
        value=$(sed -n "s/.*\b$1=\"\([0-9]*\)\".*/\1/p" <<<"$suite")
        echo "${value:-0}"
    }
    tests=$(attribute tests)
    if [[ $tests -eq 0 ]]; then
        count "$title (no report)" 0 1
        return
    fi
    bad=$(($(attribute failures) + $(attribute errors)))
    skipped=$(($(attribute skipped) + $(attribute disabled)))
    count "$title" $((tests - bad - skipped)) "$bad" "$([[ $skipped -eq 0 ]] || echo "$skipped")"
}

configure_and_build() { # PRESET TARGET...
    local preset=$1
    shift
    cmake --preset "$preset"
    cmake --build "build/$preset" -j "$jobs" ${1:+--target} "$@"
}

# Lint and unit tests both need it: counted once.
build_dev() {
    if [[ -z $dev_built ]]; then
        dev_built=no
        ! check "Build with gcc" "$out/build-dev.log" configure_and_build dev || dev_built=yes
    fi
    [[ $dev_built == yes ]]
}

install() {
    local missing
    mapfile -t missing < <(packages_missing build run test)
    if [[ ${#missing[@]} -gt 0 ]]; then
        step "Installing ${#missing[@]} packages" "$out/install.log" packages_install "${missing[@]}"
    fi
}

test_lint() {
    local good bad
    build_dev || return 0
    rm -f "$out/lint.counts"
    step "Lint" "$out/lint.log" /usr/bin/python3 tests/lint/lint.py build/dev "$out/lint.counts" $quick || true
    if read -r good bad <"$out/lint.counts"; then
        count lint "$good" "$bad"
    else
        count "lint (did not run)" 0 1
    fi
}

run_ctest() { # TITLE PRESET ARGUMENT...
    local title=$1 preset=$2
    shift 2
    rm -f "$out/$preset.xml"
    step "$title" "$out/ctest-$preset.log" ctest --test-dir "build/$preset" --output-on-failure \
        --output-junit "$out/$preset.xml" "$@" || true
    count_report "$title" "$out/$preset.xml"
}

test_unit() {
    if build_dev; then
        run_ctest "Unit and contract tests with gcc" dev
    fi
    if [[ -z $quick ]] && check "Build with clang, ASan and UBSan" "$out/build-asan.log" configure_and_build asan; then
        run_ctest "Unit and contract tests under ASan and UBSan" asan -LE probe
    fi
}

test_sim() {
    local seeds=2000 played failed_seeds
    build_dev || return 0
    step "Simulate $seeds seeds" "$out/sim.log" build/dev/tests/sim/sim --seeds 1 "$seeds" --no-loss || true
    played=$(sed -n 's/^sim: \([0-9]*\) seeds, .*/\1/p' "$out/sim.log")
    failed_seeds=$(sed -n 's/^sim: [0-9]* seeds, \([0-9]*\) failed.*/\1/p' "$out/sim.log")
    if [[ -z $played ]]; then
        count "sim (did not run)" 0 1
        return
    fi
    count "$played simulated seeds" "$((failed_seeds == 0))" "$failed_seeds"
}

# The seeds stay as they are: what a run finds goes into the build directory.
fuzz_one() { # TARGET SECONDS
    local name=${1#fuzz_} found
    found=build/fuzz/corpus/$name
    mkdir -p "$found" "tests/fuzz/corpus/$name"
    "build/fuzz/fuzz/$1" "$found" "tests/fuzz/corpus/$name" -max_total_time="$2" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$found-" -print_final_stats=1 >"$out/$1.log" 2>&1 || echo "$1" >>"$out/fuzz.failed"
}

fuzz_all() { # SECONDS TARGET...
    local seconds=$1 target
    shift
    for target in "$@"; do
        while (($(jobs -rp | wc -l) >= jobs)); do
            wait -n || true
        done
        fuzz_one "$target" "$seconds" &
    done
    wait
}

test_fuzz() {
    local targets seconds bad target
    check "Configure for fuzzing" "$out/configure-fuzz.log" cmake --preset fuzz || return 0
    mapfile -t targets < <(ninja -C build/fuzz -t targets all | sed -n 's/^\(fuzz_[a-z0-9_]*\): phony$/\1/p' | sort -u)
    if [[ ${#targets[@]} -eq 0 ]]; then
        count "fuzz targets (none found)" 0 1
        return
    fi
    check "Build ${#targets[@]} fuzz targets" "$out/build-fuzz.log" \
        cmake --build build/fuzz -j "$jobs" --target "${targets[@]}" || return 0
    seconds=$((80 * jobs / ${#targets[@]}))
    seconds=$((seconds < 2 ? 2 : seconds > 20 ? 20 : seconds))
    rm -f "$out/fuzz.failed"
    step "Fuzz each for $seconds s" "$out/fuzz.log" fuzz_all "$seconds" "${targets[@]}"
    bad=0
    while read -r target; do
        bad=$((bad + 1))
        say "$target failed. The end of $out/$target.log:"
        tail -n 30 "$out/$target.log"
    done < <(cat "$out/fuzz.failed" 2>/dev/null)
    count "fuzz targets" $((${#targets[@]} - bad)) "$bad"
}

test_system() {
    check "Build the release" "$out/build-release.log" configure_and_build release \
        cheops-agent cheops-runner cheops cheops-relay cheops-agent-dying cheops-runner-dying \
        cheops-agent-previous cheops-agent-next || return 0
    rm -f "$out/system.xml"
    step "System tests" "$out/system.log" /usr/bin/python3 -m pytest tests/system -q -rfE --tb=short -p no:cacheprovider \
        --junitxml "$out/system.xml" ${pytest_arguments[@]+"${pytest_arguments[@]}"} || true
    count_report "System tests" "$out/system.xml"
}

main() {
    local parts=() part
    while [[ $# -gt 0 ]]; do
        case $1 in
        --quick) quick=--quick ;;
        lint | unit | sim | fuzz | system) parts+=("$1") ;;
        -h | --help)
            usage
            return
            ;;
        --)
            pytest_arguments=("${@:2}")
            break
            ;;
        *)
            usage >&2
            exit 2
            ;;
        esac
        shift
    done
    if [[ ${#parts[@]} -eq 0 ]]; then
        parts=(lint unit sim fuzz system)
        [[ -z $quick ]] || parts=(lint unit)
    fi
    mkdir -p "$out"
    trap 'step_stop; exit 130' INT TERM
    install
    for part in "${parts[@]}"; do
        "test_$part"
    done
    say "$passed passed, $failed failed"
    [[ $failed -eq 0 ]]
}

main "$@"
