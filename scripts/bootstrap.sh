#!/usr/bin/env bash
# Makes a virtual environment with this checkout of gitopsd in it, editable, and does nothing if there is one already.
#
#   scripts/bootstrap.sh [--venv DIR] [--extra NAME]... [--constraint FILE]
#
# Needs python3 >= 3.11 with venv, and git. Root gets what is missing of these from the distribution; anybody else is
# told the command. PYTHON=… names another interpreter.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/packages.sh

venv=.venv
extras=()
constraint=
python=
missing=()

# An outer Python's variables would send ours to somebody else's modules.
unset PYTHONHOME PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1

fail() {
    echo "error: $*" >&2
    exit 1
}

parse_arguments() {
    while (($#)); do
        (($# > 1)) || fail "$1 needs a value"
        case $1 in
            --venv) venv=$2 ;;
            --extra) extras+=("$2") ;;
            --constraint) constraint=$2 ;;
            *) fail "unknown option $1" ;;
        esac
        shift 2
    done
}

# ------------------------------------------------------------------------------------------- python3 and git

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Debian splits ensurepip off the standard library, so that `-m venv` exists and fails.
can_make_venvs() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# Each candidate is run, not only looked up: a pyenv shim exists for versions that are not switched on. One that can
# make environments wins over one that needs a package first.
find_python() {
    local candidate
    python=
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        is_new_enough "$candidate" || continue
        [[ -n $python ]] || python=$candidate
        if can_make_venvs "$candidate"; then
            python=$candidate
            return
        fi
    done
}

find_missing_packages() {
    missing=()
    find_python
    if [[ -z $python ]]; then
        missing+=(python3)
        if [[ $(package_manager) == apt-get ]]; then missing+=(python3-venv); fi
    elif ! can_make_venvs "$python"; then
        missing+=("$(venv_package)")
    fi
    command -v git >/dev/null || missing+=(git)
}

# Debian names it after the version; elsewhere it belongs to the interpreter.
venv_package() {
    if [[ $(package_manager) == apt-get ]]; then
        "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
    else
        echo python3
    fi
}

install_missing_packages() {
    local manager
    manager=$(package_manager)
    [[ -n $manager ]] || fail "please install first: ${missing[*]} (python3 >= 3.11, with venv)"
    local command="$manager install -y ${missing[*]}"
    # A fresh image has no package lists.
    [[ $manager != apt-get ]] || command="apt-get update && $command"
    ((EUID == 0)) || fail "please run first, as root: $command"
    echo "Installing ${missing[*]} …" >&2
    run_quietly install_with "$manager" "${missing[@]}" || fail "$manager could not install ${missing[*]}"
}

require_system_packages() {
    find_missing_packages
    ((${#missing[@]})) || return 0
    install_missing_packages
    find_missing_packages
    [[ -n $python ]] || fail "no python3 >= 3.11 here; install one and name it: PYTHON=python3.12 $0"
    ((${#missing[@]} == 0)) || fail "still missing after the installation: ${missing[*]}"
}

# ------------------------------------------------------------------------------------------- the environment

# Which interpreter it is, not where it was found: an environment follows neither an upgrade nor a change of PYTHON.
identity() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null; }

is_usable() { [[ -x $venv/bin/python && $(identity "$venv/bin/python") == "$(identity "$python")" ]]; }

# All that decides what is installed, but for the extras. The path is in it since scripts in an environment hold it.
fingerprint() {
    {
        printf '%s\n' "$PWD/$venv" "$constraint"
        cat pyproject.toml gitopsd/__init__.py ${constraint:+"$constraint"}
    } | sha256sum | cut -d ' ' -f 1
}

stamped_fingerprint() { sed -n 1p "$venv/bootstrapped" 2>/dev/null || true; }
stamped_extras() { sed -n 2p "$venv/bootstrapped" 2>/dev/null || true; }

is_up_to_date() {
    local extra
    [[ $(stamped_fingerprint) == "$(fingerprint)" ]] || return 1
    for extra in "${extras[@]}"; do
        [[ " $(stamped_extras) " == *" $extra "* ]] || return 1
    done
}

create_environment() {
    # --clear: what another interpreter left there does not work with this one.
    run_quietly "$python" -m venv --clear "$venv" || fail "$python cannot make an environment in $PWD/$venv"
}

# What is there for another script stays: the quickstart does not undo the tests' environment, nor they its.
install_gitopsd() {
    local -a all
    local list
    mapfile -t all < <(printf '%s\n' "${extras[@]}" "$(stamped_extras)" | tr ' ' '\n' | sed '/^$/d' | sort -u)
    list=$(IFS=,; echo "${all[*]}")
    rm -f "$venv/bootstrapped" # half an installation must not look like a whole one
    pip_install ${constraint:+--constraint "$constraint"} --editable ".${list:+[$list]}"
    printf '%s\n' "$(fingerprint)" "${all[*]}" >"$venv/bootstrapped"
}

pip_install() {
    local log=$venv/pip.log
    "$venv/bin/python" -m pip install --quiet "$@" </dev/null >"$log" 2>&1 && return
    if grep -qE 'connection broken|NewConnectionError|ProxyError|TimeoutError|timed out' "$log"; then
        fail "cannot reach the Python package index; is the network up? (all of it: $venv/pip.log)"
    fi
    tail -n 20 "$log" >&2
    fail "pip could not install gitopsd into $venv"
}

main() {
    parse_arguments "$@"
    require_system_packages
    if is_usable; then
        if is_up_to_date; then return; fi
    else
        echo "Making $venv …" >&2
        create_environment
    fi
    install_gitopsd
}

main "$@"
