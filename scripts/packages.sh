# shellcheck shell=bash
# What the other scripts share: the distribution's packages. To be sourced.

package_manager() {
    local name
    for name in apt-get dnf; do
        if command -v "$name" >/dev/null; then
            echo "$name"
            return
        fi
    done
}

# install_with MANAGER PACKAGE…
install_with() {
    local manager=$1
    shift
    if [[ $manager == apt-get ]]; then
        # A fresh image has no package lists; stale ones may still do.
        apt-get update || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
    else
        "$manager" install -y "$@"
    fi
}

# Says what a command says only if it fails.
run_quietly() {
    local output
    output=$("$@" </dev/null 2>&1) && return
    tail -n 20 <<<"$output" >&2
    return 1
}
