#!/usr/bin/env bash
# Every check there is, on any machine with python3 >= 3.11 and git; brings the rest itself.
#
#   scripts/test.sh [--fast] [PYTEST ARGUMENTS…]
#
# --fast leaves out the second pass, against the oldest supported dependencies. A failed check does not stop the others;
# the exit status is 0 only if all passed. PYTEST ARGUMENTS go to the first pass: scripts/test.sh --fast -x -k lock
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A git hook sets these, and they would send the tests' git into this repository.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX
unset PYTHONHOME PYTHONPATH

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
trap 'exit 130' INT # pytest handles it too and ends as a failure, which alone would start the next check

fast=false
failed=false
rows=()
left_out=()

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

# Runs a check that takes long enough to be watched.
watched_step() {
    local name=$1 started=$SECONDS
    shift
    echo "── $name"
    if "$@" 2>&1 | tee "$logs/$name"; then
        record "$name" ok "$started"
    else
        record "$name" FAILED "$started"
    fi
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
        if [[ $path == *.sh || $first =~ ^#!.*[/\ ](ba|da)?sh(\ |$) ]]; then printf '%s\0' "$path"; fi
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

# The environment comes first in PATH, so that a test which calls `gitopsd` gets this checkout.
run_pytest() {
    local venv=$1 colour=no
    shift
    if [[ -t 1 || -n ${FORCE_COLOR:-} ]]; then colour=yes; fi
    PATH="$PWD/$venv/bin:$PATH" "$venv/bin/python" -m pytest --color="$colour" "$@"
}

# Everything but the long loops and the tests of a whole system: those say nothing about a library's version.
run_oldest() {
    scripts/bootstrap.sh --venv .venv-oldest --extra pytest --constraint tests/oldest.txt || return
    # The other pass's record of failed tests stays for --last-failed.
    run_pytest .venv-oldest -p no:cacheprovider --crash-runs 2 tests/unit tests/integration
}

# -------------------------------------------------------------------------------------------------- summary

print_left_out() {
    if [[ -f $logs/pytest ]]; then skipped_tests; fi
    if ((${#left_out[@]})); then printf '  %s\n' "${left_out[@]}"; fi
}

# One line a reason: "SKIPPED [2] tests/system/test_units.py:7: no booted systemd" becomes "2 tests: no booted systemd".
skipped_tests() {
    local count reason
    local -A tests=()
    while read -r count reason; do
        tests[$reason]=$((${tests[$reason]:-0} + count))
    done < <(without_colours "$logs/pytest" | sed -nE 's/^SKIPPED \[([0-9]+)\] [^ ]+: (.*)$/\1 \2/p')
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

main() {
    if [[ ${1:-} == --fast ]]; then
        fast=true
        shift
    fi
    scripts/bootstrap.sh --extra test
    check_code
    watched_step pytest run_pytest .venv "$@"
    if $fast; then
        leave_out pytest-oldest "asked for by --fast"
    else
        step pytest-oldest run_oldest
    fi
    print_summary
    ! $failed
}

main "$@"
