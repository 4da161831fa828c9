#!/usr/bin/env bash
# Puts what a distribution's package holds beside the Python package and its launcher into its place below DESTDIR.
#
#   packaging/stage.sh DESTDIR [--zsh DIR]
#
# DIR is where this distribution's zsh looks for completions: by default Debian's, /usr/share/zsh/vendor-completions.
# The package has its program as /usr/bin/gitopsd, which is what the units say. Nothing is compressed here.
set -euo pipefail

readonly doc_dir=/usr/share/doc/gitopsd
readonly unit_dir=/usr/lib/systemd/system
readonly python=${PYTHON:-/usr/bin/python3}

# Where the parts of units/ go that are no units.
declare -rA places=(
    [gitopsd.sysusers]=/usr/lib/sysusers.d/gitopsd.conf
    [gitopsd.tmpfiles]=/usr/lib/tmpfiles.d/gitopsd.conf
    [gitopsd.rules]=/usr/share/polkit-1/rules.d/50-gitopsd.rules
    [gitopsd.preset]=/usr/lib/systemd/system-preset/90-gitopsd.preset
    [gitopsd.catalog]=/usr/lib/systemd/catalog/gitopsd.catalog
)

destdir=
zsh_dir=/usr/share/zsh/vendor-completions

fail() {
    echo "error: $*" >&2
    exit 1
}

parse_arguments() {
    while (($#)); do
        case $1 in
            --zsh)
                [[ -n ${2-} ]] || fail "--zsh needs a directory"
                zsh_dir=$2
                shift
                ;;
            -*) fail "unknown option $1; usage: packaging/stage.sh DESTDIR [--zsh DIR]" ;;
            *) destdir=$(realpath --canonicalize-missing -- "$1") ;;
        esac
        shift
    done
    # Empty, it is a variable that was never set, and not a wish for the real thing.
    [[ -n $destdir && $destdir != / ]] || fail "needs the directory to put things below; usage: packaging/stage.sh DESTDIR"
}

# put SOURCE TARGET
put() { install -D --mode=644 -- "$1" "$destdir$2"; }

stage_units() {
    local path name
    for path in units/*.service units/*.socket units/*.timer; do
        put "$path" "$unit_dir/${path##*/}"
    done
    for name in "${!places[@]}"; do
        put "units/$name" "${places[$name]}"
    done
}

# All of it is comments: a fresh installation has no repo and answers nobody.
stage_config() { put docs/gitopsd.example.yaml /etc/gitopsd/gitopsd.yaml; }

stage_manual() {
    local pages path
    pages=$(mktemp -d)
    # -B: a build leaves nothing behind in the tree.
    if ! "$python" -B packaging/man.py "$pages"; then
        rm -rf "$pages"
        fail "packaging/man.py could not write the manual pages"
    fi
    for path in "$pages"/*.[1-9]; do
        put "$path" "/usr/share/man/man${path##*.}/${path##*/}"
    done
    rm -rf "$pages"
}

stage_completions() {
    put packaging/completion/gitopsd.bash /usr/share/bash-completion/completions/gitopsd
    put packaging/completion/_gitopsd "$zsh_dir/_gitopsd"
    put packaging/completion/gitopsd.fish /usr/share/fish/vendor_completions.d/gitopsd.fish
}

# With docs/ below it as in the tree, so that the links from one to the other lead somewhere.
stage_docs() {
    local path
    for path in README.md CHANGELOG.md docs/*.md docs/gitopsd.example.yaml; do
        put "$path" "$doc_dir/$path"
    done
}

main() {
    parse_arguments "$@"
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    umask 022
    stage_units
    stage_config
    stage_manual
    stage_completions
    stage_docs
}

main "$@"
