#!/usr/bin/env bash
# Every check there is, on any machine with python3 >= 3.11 and git; brings the rest itself.
#
#   scripts/test.sh [--fast] [--no-skips] [PYTEST ARGUMENTS…]
#
# --fast leaves out the pass against the oldest supported dependencies. With --no-skips a system test that cannot run on
# this machine has failed, and so has one with Docker's registry. A failed check does not stop the others; the exit
# status is 0 only if all passed.
#
# PYTEST ARGUMENTS go to pytest and to pytest-system, paths to the one that they are meant for:
#
#   scripts/test.sh --fast -x -k lock
#   scripts/test.sh --fast tests/system/test_host.py
#
# The system tests boot Debian in a namespace, which takes root. On Debian and Ubuntu root gets the tools for that.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/packages.sh

# A git hook sets these, and they would send the tests' git into this repository.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX
unset PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE

logs=$(mktemp -d)
memory= # where tests work, if they can work in memory
trap clean_up EXIT # also after a SIGTERM
trap 'exit 130' INT # pytest handles it too and ends as a failure, which alone would start the next check

fast=false
no_skips=false
failed=false
tested=false
rows=()
left_out=()

options=()      # for pytest, whatever it runs
paths=()        # for pytest
system_paths=() # for pytest-system
declare -A background=()

clean_up() {
    stop_children
    rm -rf "$logs" ${memory:+"$memory"}
}

# Tests write a lot and wait until it is on the disk, which others may keep busy. In memory there is nothing to wait for.
work_in_memory() {
    local place=/dev/shm free
    [[ -z ${TMPDIR:-} && -d $place && -w $place ]] || return 0
    free=$(df --output=avail -k "$place" | tail -n 1)
    ((free > 4000000)) || return 0
    memory=$(mktemp -d "$place/gXXXXXX") # short, as the path of a socket has to be
    printf '#!/bin/sh\n' >"$memory/program" && chmod +x "$memory/program"
    chmod 755 "$memory" # others look into it, as into /tmp
    if "$memory/program" 2>/dev/null; then export TMPDIR=$memory; fi
}

# ---------------------------------------------------------------------------------------------------- steps

# Runs a check and shows what it says only if it fails.
step() {
    local name=$1 started=$SECONDS
    shift
    if "$@" >"$logs/$name" 2>&1; then
        record "$name" ok "$started"
    else
        echo "── $name"
        cat "$logs/$name"
        record "$name" FAILED "$started"
    fi
}

# Runs tests, which take long enough to be watched. 5 is pytest's word for: none of these was asked for.
watched_step() {
    local name=$1 started=$SECONDS status=0
    shift
    echo "── $name"
    "$@" 2>&1 | tee -i "$logs/$name" || status=$? # -i: pytest has something to say after an interrupt
    if ((status == 5)); then
        leave_out "$name" "none of its tests was asked for"
        return
    fi
    tested=true
    if ((status == 0)); then
        record "$name" ok "$started"
    else
        record "$name" FAILED "$started"
    fi
}

# Runs a check beside others; `join` waits for it, and then it counts like a `step`.
# In a process group of its own, because otherwise bash lets it ignore the signal that interrupts us.
start() {
    local name=$1
    shift
    set -m
    run_in_background "$name" "$@" &
    set +m
    background[$name]=$!
}

run_in_background() {
    local name=$1 started status=0
    shift
    if [[ $1 == --after ]]; then
        tail --pid="${background[$2]}" -f /dev/null
        shift 2
    fi
    started=$SECONDS
    ("$@") >"$logs/$name" 2>&1 </dev/null || status=$?
    echo "$((SECONDS - started))" >"$logs/$name.seconds"
    return "$status"
}

join() {
    local name=$1 result=ok status=0
    echo "── $name goes on"
    wait "${background[$name]}" || status=$?
    unset "background[$name]"
    if ((status == 5)); then
        leave_out "$name" "none of its tests was asked for"
        return
    fi
    tested=true
    if ((status != 0)); then
        result=FAILED
        echo "── $name"
        cat "$logs/$name"
    fi
    record "$name" "$result" "$((SECONDS - $(cat "$logs/$name.seconds" || echo 0)))"
}

# As if each were interrupted at a terminal: pytest ends what its tests have started. Some lead a process group.
stop_children() {
    local pid
    local -a pids=()
    read -r -a pids 2>/dev/null <"/proc/$$/task/$$/children" || true
    for pid in "${pids[@]}"; do
        kill -INT -- "-$pid" 2>/dev/null || kill -INT "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    done
}

record() {
    local name=$1 result=$2 started=$3
    [[ $result != FAILED ]] || failed=true
    rows+=("$(printf '%-14s %-8s %4ds  %s' "$name" "$result" $((SECONDS - started)) "$(closing_line "$logs/$name")")")
}

leave_out() {
    local name=$1 reason=$2
    rows+=("$(printf '%-14s %-8s' "$name" 'left out')")
    left_out+=("$name: $reason")
}

# pytest's own count, without its frame and colours; nothing for other checks.
closing_line() {
    without_colours "$1" | sed -nE 's/^=+ ((no tests|[0-9]+ [a-z]+).* in [0-9.]+s.*) =+$/\1/p' | tail -n 1
}

without_colours() { sed -E 's/\x1b\[[0-9;]*m//g' "$@"; }

# --------------------------------------------------------------------------------------------------- checks

# Scripts by ending or by shebang, also the ones that are not committed yet.
shell_scripts() {
    local path first
    while IFS= read -r -d '' path; do
        [[ -f $path && ! -L $path ]] || continue
        first=
        IFS= read -r first 2>/dev/null <"$path" || true
        if [[ $path == *.sh || $path == *.bash || $first =~ ^#!.*[/\ ](ba|da)?sh(\ |$) ]]; then printf '%s\0' "$path"; fi
    done < <(source_files)
}

# A source archive has no repository around it, and git refuses another user's.
source_files() {
    git ls-files -z --cached --others --exclude-standard 2>/dev/null ||
        find . -path './.venv*' -prune -o -type f -print0
}

run_shellcheck() {
    local -a scripts
    mapfile -d '' scripts < <(shell_scripts 2>/dev/null)
    "$1" --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
}

find_shellcheck() {
    if [[ -x .venv/bin/shellcheck ]]; then
        echo .venv/bin/shellcheck
    else
        command -v shellcheck || true
    fi
}

# The environment comes first in PATH, so that a test which calls `gitopsd` gets this checkout. Ends this shell, which
# is one of its own in a pipeline and in the background: signals then reach pytest.
run_pytest() {
    local venv=$1 colour=no
    shift
    if [[ -t 1 || -n ${FORCE_COLOR:-} ]]; then colour=yes; fi
    PATH="$PWD/$venv/bin:$PATH" exec "$venv/bin/python" -m pytest --color="$colour" "$@"
}

run_here() {
    if $no_skips; then set -- --no-skips "$@"; fi
    run_pytest .venv "$@"
}

# The tests of the engine have git and bash to do with, and nothing of Python: a pass of their own, on another core.
engine_tests() { grep -lE '^from tests\.(engine|strategies) ' tests/integration/test_*.py; }

# These wait for daemons more than they work.
waiting_tests() { printf 'tests/integration/test_%s.py\n' bench crash holds idle notifications poll trouble; }

# The tests that a function names, as a pass of their own.
run_named() {
    local -a tests
    mapfile -t tests < <("$1")
    shift
    run_here -p no:cacheprovider "$@" "${tests[@]}"
}

run_rest() {
    local path
    local -a left=()
    while IFS= read -r path; do left+=(--ignore="$path"); done < <(engine_tests && waiting_tests)
    run_here "$@" "${left[@]}"
}

# What falcon, waitress, jsonschema and the others have to do with: not the store, the sync or the providers, which need
# none of them. Whole systems are Debian 12, which has these versions.
run_oldest() {
    PIP_COMPILE=0 scripts/bootstrap.sh --venv .venv-oldest --extra pytest --constraint tests/oldest.txt || return
    # The other pass's record of failed tests stays for --last-failed.
    run_pytest .venv-oldest -p no:cacheprovider \
        tests/unit/test_{cli_output,config,daemon,keys,lock,notify,receiver,rounds,runner}*.py \
        tests/unit/test_{signatures,systemd,units,web}*.py \
        tests/integration/test_{bad_input,commands,http,notifications,push}.py
}

# ------------------------------------------------------------------------------------ hosts for system tests

# What boots hosts, and what builds and judges the packages that are installed there.
readonly tools=(
    systemd-container mmdebstrap                                              # hosts
    debhelper dh-python dpkg-dev flit lintian make pybuild-plugin-pyproject   # the deb and the wheel
    rpm rpmlint                                                               # the rpm
    man-db groff mandoc fish zsh                                              # manual and completions
    git-lfs gnupg                                                             # what a checkout may need beside git
    wrk                                                                       # load for the bench
)

is_installed() { [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

# Without them the system tests are left out, and say so.
install_tools() {
    local package
    local -a missing=()
    ((EUID == 0)) && command -v apt-get >/dev/null || return 0
    for package in "${tools[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    echo "Installing ${missing[*]} …" >&2
    install_with apt-get "${missing[@]}" >"$logs/apt" 2>&1 </dev/null || tail -n 5 "$logs/apt" >&2
}

# Docker's registry, for the test that talks to one. Not installed, as its package would start one on this machine.
fetch_registry() {
    local place=${XDG_CACHE_HOME:-$HOME/.cache}/gitopsd-tests/docker-registry unpacked
    [[ ! -x $place/usr/bin/docker-registry ]] && command -v apt-get dpkg-deb >/dev/null || return 0
    unpacked=$(mktemp -d)
    if (unpack_registry "$unpacked") >"$logs/registry" 2>&1 </dev/null; then
        mkdir -p "$place" && cp -r "$unpacked/unpacked/." "$place"
    else
        tail -n 5 "$logs/registry" >&2
    fi
    rm -rf "$unpacked"
}

# A fresh image has no package lists, and only root may fetch them.
unpack_registry() {
    cd "$1" || return
    apt-get download docker-registry || { apt-get update && apt-get download docker-registry; } || return
    dpkg-deb --extract ./*.deb unpacked
}

can_make_roots() { ((EUID == 0)) && command -v systemd-nspawn mmdebstrap >/dev/null; }

start_making_roots() {
    if can_make_roots; then start roots .venv/bin/python -m tests.system.roots; fi
}

# pytest-system tries again and says what is wrong if they could not be made.
wait_for_roots() {
    [[ -n ${background[roots]:-} ]] || return 0
    if kill -0 "${background[roots]}" 2>/dev/null; then echo "Waiting for Debian 12 and 13 …" >&2; fi
    wait "${background[roots]}" || true
    unset "background[roots]"
}

# -------------------------------------------------------------------------------------------------- summary

print_left_out() {
    skipped_tests
    if ((${#left_out[@]})); then printf '  %s\n' "${left_out[@]}"; fi
}

# One line a reason: "SKIPPED [2] tests/system/test_units.py:7: no booted systemd" becomes "2 tests: no booted systemd".
skipped_tests() {
    local count reason
    local -A tests=()
    while read -r count reason; do
        tests[$reason]=$((${tests[$reason]:-0} + count))
    done < <(cat "$logs"/pytest{,-engine,-waits,-system} 2>/dev/null | without_colours | sed -nE 's/^SKIPPED \[([0-9]+)\] [^ ]+: (.*)$/\1 \2/p')
    for reason in "${!tests[@]}"; do
        count=${tests[$reason]}
        printf '  %d %s: %s\n' "$count" "$( ((count == 1)) && echo test || echo tests)" "$reason"
    done | sort -k 3
}

print_summary() {
    local skipped
    printf '\n'
    printf '%s\n' "${rows[@]}" | sed 's/ *$//'
    skipped=$(print_left_out)
    if [[ -n $skipped ]]; then printf '\nLeft out on this machine:\n%s\n' "$skipped"; fi
}

# ----------------------------------------------------------------------------------------------------- main

check_code() {
    local shellcheck
    step "ruff check" .venv/bin/ruff check --quiet .
    step "ruff format" .venv/bin/ruff format --check --quiet --diff .
    step mypy .venv/bin/mypy --no-error-summary
    step lint-imports .venv/bin/lint-imports --no-logo
    shellcheck=$(find_shellcheck)
    if [[ -n $shellcheck ]]; then
        step shellcheck run_shellcheck "$shellcheck"
    else
        leave_out shellcheck "there is no ShellCheck on this machine; install it to have the scripts checked"
    fi
}

start_oldest() {
    if $fast; then
        leave_out pytest-oldest "asked for by --fast"
    else
        start pytest-oldest "$@" run_oldest
    fi
}

parse_arguments() {
    local word before=
    while [[ ${1:-} == --fast || ${1:-} == --no-skips ]]; do
        case $1 in
            --fast) fast=true ;;
            --no-skips) no_skips=true ;;
        esac
        shift
    done
    for word in "$@"; do
        if is_path "$before" "$word"; then
            add_path "$word"
        else
            options+=("$word")
        fi
        before=$word
    done
    if ((${#paths[@]} + ${#system_paths[@]} == 0)); then add_path tests; fi
}

# Also tests/unit/test_lock.py::test_of_one, but not what belongs to the option before it.
is_path() {
    local before=$1 word=$2
    case $before in
        -[ckmopWr] | --basetemp | --deselect | --ignore | --junitxml | --rootdir) return 1 ;;
    esac
    [[ $word != -* && -e ${word%%::*} ]]
}

add_path() {
    case $(realpath --relative-to=. -- "${1%%::*}") in
        . | tests)
            paths+=(tests/unit tests/integration)
            system_paths+=(tests/system)
            ;;
        tests/system | tests/system/*) system_paths+=("$1") ;;
        *) paths+=("$1") ;;
    esac
}

# Hosts are waited for more than they work, so the other passes run beside them.
run_tests() {
    local pass
    if ((${#system_paths[@]} == 0)); then
        leave_out pytest-system "only other tests were asked for"
    else
        wait_for_roots
        if ((${#paths[@]})); then
            start pytest-system run_here "${options[@]}" "${system_paths[@]}"
        else
            watched_step pytest-system run_here "${options[@]}" "${system_paths[@]}"
        fi
    fi
    if [[ ${paths[*]} == *tests/integration* && ${paths[*]} != *test_* ]]; then
        start pytest-engine run_named engine_tests "${options[@]}"
        start pytest-waits run_named waiting_tests "${options[@]}"
        start_oldest --after pytest-engine
        watched_step pytest run_rest "${options[@]}" "${paths[@]}"
    else
        if ((${#paths[@]})); then
            watched_step pytest run_here "${options[@]}" "${paths[@]}"
        else
            leave_out pytest "only system tests were asked for"
        fi
        start_oldest
    fi
    for pass in engine waits system oldest; do
        if [[ -n ${background[pytest-$pass]:-} ]]; then join "pytest-$pass"; fi
    done
    $tested || failed=true # a misspelt -k must not look like a success
}

main() {
    parse_arguments "$@"
    if ((${#system_paths[@]})); then install_tools; fi
    PIP_COMPILE=0 scripts/bootstrap.sh --extra test # most of it is never imported
    if ((${#system_paths[@]})); then start_making_roots; fi
    if ((${#paths[@]})); then fetch_registry; fi
    check_code
    work_in_memory
    run_tests
    print_summary
    ! $failed
}

main "$@"
