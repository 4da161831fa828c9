#!/usr/bin/env bash
# Builds packages of gitopsd from this tree into dist/.
#
#   packaging/build.sh [--out DIR] deb|rpm|wheel|all
#
# Needs Debian 12 or later, or a relative of it; the wheel and the rpm can be built on Fedora too. Root gets the build's
# tools that are missing from the distribution, anybody else is told the command. The same tree gives the same bytes:
# the time in the packages is SOURCE_DATE_EPOCH, else that of the last commit, else that of the newest file.
set -euo pipefail

# The distribution's tools and Python, whatever else its user has.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
readonly python=/usr/bin/python3

# A git hook sets these, and they would send git into another repository.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX
# The user's may be 077, and what is packaged is for everybody to read.
umask 022

out=dist
kinds=()
missing=()
work=
version=
epoch=

usage() { sed -n '2,/^$/{/^#/s/^# \{0,1\}//p}' "$0"; }

fail() {
    echo "error: $*" >&2
    exit 1
}

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help)
                usage
                exit
                ;;
            --out)
                [[ -n ${2-} ]] || fail "--out needs a directory"
                out=$2
                shift
                ;;
            deb | rpm | wheel) kinds+=("$1") ;;
            all) kinds+=(deb rpm wheel) ;;
            *) fail "unknown word $1; usage: packaging/build.sh [--out DIR] deb|rpm|wheel|all" ;;
        esac
        shift
    done
    ((${#kinds[@]})) || fail "say what to build; usage: packaging/build.sh [--out DIR] deb|rpm|wheel|all"
    out=$(realpath --canonicalize-missing -- "$out")
}

# ------------------------------------------------------------------------------------------- the build's tools

# need PACKAGE WORD…: PACKAGE is missing if the command or, as `import NAME`, the module that it brings is.
need() {
    local package=$1
    shift
    if [[ $1 == import ]]; then
        "$python" -I -c "import $2" 2>/dev/null && return
    else
        command -v "$1" >/dev/null && return
    fi
    [[ " ${missing[*]} " == *" $package "* ]] || missing+=("$package")
}

find_missing_packages() {
    local kind manager
    manager=$(package_manager)
    missing=()
    need python3 "$python"
    for kind in "${kinds[@]}"; do
        "need_for_$kind" "$manager"
    done
}

need_for_deb() {
    need dpkg-dev dpkg-buildpackage
    need make make
    need debhelper dh
    need dh-python pybuild
    need pybuild-plugin-pyproject import build
    need pybuild-plugin-pyproject import installer
    need flit import flit_core
}

need_for_rpm() {
    if [[ $1 == dnf ]]; then need rpm-build rpmbuild; else need rpm rpmbuild; fi
    need_for_wheel "$1"
}

need_for_wheel() {
    if [[ $1 == dnf ]]; then need python3-flit-core import flit_core; else need flit import flit_core; fi
}

require_tools() {
    local manager command
    find_missing_packages
    ((${#missing[@]})) || return 0
    manager=$(package_manager)
    [[ -n $manager ]] || fail "please install first (by Debian's names): ${missing[*]}"
    [[ $manager == apt-get || " ${kinds[*]} " != *" deb "* ]] || fail "a deb is built on Debian or a relative of it"
    command="$manager install -y ${missing[*]}"
    # A fresh image has no package lists.
    [[ $manager != apt-get ]] || command="apt-get update && $command"
    ((EUID == 0)) || fail "please run first, as root: $command"
    echo "Installing ${missing[*]} …" >&2
    run_quietly install_with "$manager" "${missing[@]}" || fail "$manager could not install ${missing[*]}"
    find_missing_packages
    ((${#missing[@]} == 0)) || fail "still missing after the installation: ${missing[*]}"
}

# ------------------------------------------------------------------------------------------- what is built

# The repository may belong to another user than the one who builds, which git wants to be told is meant.
tree_git() { git -c safe.directory='*' -c core.fsmonitor=false "$@"; }

# A source archive has no repository of its own, and may lie in somebody else's.
is_repository() {
    command -v git >/dev/null && [[ $(tree_git rev-parse --show-toplevel 2>/dev/null) == "$PWD" ]]
}

# As in the other scripts: also what is not committed yet, but nothing that git is told to ignore.
source_files() {
    if is_repository; then
        tree_git ls-files -z --cached --others --exclude-standard
    else
        find . \( -name .git -o -name '.venv*' -o -name __pycache__ -o -name '.*_cache' -o -name .hypothesis \
            -o -name '*.egg-info' -o -path ./dist -o -path ./build \) -prune -o ! -type d -printf '%P\0'
    fi
}

read_version() {
    version=$(sed -nE 's/^__version__ = "(.*)"$/\1/p' gitopsd/__init__.py 2>/dev/null) || true
    [[ -n $version && -d units ]] || fail "$PWD is not a whole tree of gitopsd: gitopsd/__init__.py or units/ is missing"
    # A pre-release has another form, and another place in the order, in each kind of package.
    [[ $version =~ ^[0-9]+(\.[0-9]+)*$ ]] ||
        fail "gitopsd/__init__.py: version $version; packages are made of versions of numbers and dots alone"
}

# Files with one time and the usual modes, whatever the tree was checked out with: the packages hold both.
copy_sources() {
    local target=$1 path
    mkdir -p "$target"
    source_files | while IFS= read -r -d '' path; do
        # Deleted, and that is not committed yet.
        if [[ -e $path || -L $path ]]; then printf '%s\0' "$path"; fi
    done | LC_ALL=C sort -zu | tar --create --no-recursion --null --files-from=- |
        tar --extract --no-same-owner --directory "$target"
    read_epoch "$target"
    chmod -R u=rwX,go=rX "$target"
    find "$target" -exec touch --no-dereference --date="@$epoch" {} +
}

read_epoch() {
    epoch=${SOURCE_DATE_EPOCH-}
    if [[ -z $epoch ]] && is_repository; then epoch=$(tree_git log -1 --format=%ct 2>/dev/null) || true; fi
    if [[ -z $epoch ]]; then epoch=$(find "$1" ! -type d -printf '%T@\n' | sort -n | sed -n '$s/\..*//p'); fi
    [[ $epoch =~ ^[0-9]+$ ]] || fail "SOURCE_DATE_EPOCH=$epoch is not a number of seconds"
}

# in_clean_environment DIR COMMAND…: nothing that the user has set gets into a package.
in_clean_environment() {
    local directory=$1
    shift
    (
        cd "$directory" || exit
        env -i PATH="$PATH" HOME="$work" TMPDIR="$work" LC_ALL=C.UTF-8 TZ=UTC SOURCE_DATE_EPOCH="$epoch" "$@"
    )
}

# ------------------------------------------------------------------------------------------- the packages

build_deb() {
    local tree=$work/deb/gitopsd
    mkdir "$work/deb"
    cp --archive "$work/source" "$tree"
    cp --recursive "$tree/packaging/debian" "$tree/debian"
    write_changelog >"$tree/debian/changelog"
    # Which tools there are was looked at; that there is a C compiler too does not matter here.
    in_clean_environment "$tree" dpkg-buildpackage --build=binary --no-sign --no-check-builddeps || return
    mv "$work/deb/gitopsd_${version}_all.deb" "$out"
}

# The version and its time, for Debian's tools. What has changed is in CHANGELOG.md.
write_changelog() {
    cat <<END
gitopsd ($version) unstable; urgency=medium

  * What has changed is in /usr/share/doc/gitopsd/CHANGELOG.md.

 -- $(sed -n 's/^Maintainer: //p' packaging/debian/control)  $(LC_ALL=C date --utc --rfc-email --date="@$epoch")
END
}

build_rpm() { in_clean_environment "$work/source" packaging/rpm/build.sh "$work/source" "$out"; }

build_wheel() {
    local tree=$work/wheel
    cp --archive "$work/source" "$tree"
    in_clean_environment "$tree" "$python" -I -c '
import sys

from flit_core import buildapi

buildapi.build_wheel(sys.argv[1])
' "$out"
}

package_file() {
    case $1 in
        deb) echo "gitopsd_${version}_all.deb" ;;
        rpm) echo "gitopsd-$version-1.noarch.rpm" ;;
        wheel) echo "gitopsd-$version-py3-none-any.whl" ;;
    esac
}

main() {
    local kind file
    parse_arguments "$@"
    cd -P "$(dirname "${BASH_SOURCE[0]}")/.." # as git names the top of its tree
    . scripts/packages.sh
    read_version
    require_tools
    mkdir -p "$out" 2>/dev/null || fail "$out cannot be made; name another directory with --out"

    work=$(mktemp --directory)
    trap 'rm -rf "$work"' EXIT
    copy_sources "$work/source"
    for kind in "${kinds[@]}"; do
        file=$out/$(package_file "$kind")
        rm -f "$file"
        run_quietly "build_$kind" || fail "the $kind could not be built; above is the end of what the build said"
        [[ -s $file ]] || fail "the build of the $kind did not make $file"
        echo "$file"
    done
}

main "$@"
