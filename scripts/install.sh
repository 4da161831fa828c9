#!/usr/bin/env bash
# Installs gitopsd from this checkout onto a host with systemd, or over an older one, and removes it again.
#
#   scripts/install.sh [--remove] [--destdir DIR]
#
# Needs root and systemd 252 or later; libraries that are missing come from the distribution. Running syncs go on over
# an upgrade. --remove keeps the configuration, the records and the users.
# --destdir puts the files below DIR and does nothing else: no root, no dependencies, nothing started.
set -euo pipefail
shopt -s nullglob

readonly python=/usr/bin/python3
readonly launcher=/usr/local/bin/gitopsd
readonly unit_dir=/usr/local/lib/systemd/system
readonly man_dir=/usr/local/share/man
readonly config=/etc/gitopsd/gitopsd.yaml
readonly kept=(/etc/gitopsd /var/lib/gitopsd /var/lib/gitopsd-sync)

# Where the parts of units/ go that are no units.
declare -rA places=(
    [gitopsd.sysusers]=/usr/local/lib/sysusers.d/gitopsd.conf
    [gitopsd.tmpfiles]=/usr/local/lib/tmpfiles.d/gitopsd.conf
    [gitopsd.rules]=/etc/polkit-1/rules.d/50-gitopsd.rules
    [gitopsd.preset]=/usr/local/lib/systemd/system-preset/90-gitopsd.preset
    [gitopsd.catalog]=/usr/local/lib/systemd/catalog/gitopsd.catalog
)

readonly modules=(falcon waitress yaml filelock greenlet sdnotify pystemd jsonschema rich)

action=install
destdir=
missing=()

# An outer Python's variables would send ours to somebody else's modules.
unset PYTHONHOME PYTHONPATH
# Root's may be 077, and the users of the services have to read what is installed.
umask 022

fail() {
    echo "error: $*" >&2
    exit 1
}

parse_arguments() {
    while (($#)); do
        case $1 in
            --remove) action=remove ;;
            --destdir)
                # Empty, it is a variable that was never set, and not a wish for the real thing.
                [[ -n ${2-} ]] || fail "--destdir needs a directory"
                destdir=$(realpath --canonicalize-missing -- "$2")
                shift
                ;;
            *) fail "unknown option $1; usage: scripts/install.sh [--remove] [--destdir DIR]" ;;
        esac
        shift
    done
}

must() { run_quietly "$@" || fail "$* failed"; }

# ------------------------------------------------------------------------------------------- the host

is_this_host() { [[ -z $destdir ]]; }

# Not so in a chroot or while an image is built: there is nobody to tell, and the next boot finds everything by itself.
is_booted() { is_this_host && [[ -d /run/systemd/system ]]; }

require_root() {
    if is_this_host && ((EUID != 0)); then
        fail "please run it as root; to look at what it installs: scripts/install.sh --destdir DIR"
    fi
}

require_whole_checkout() {
    local name
    for name in gitopsd.service "${!places[@]}"; do
        [[ -f units/$name ]] || fail "$PWD/units/$name is not there: this is not a whole checkout of gitopsd"
    done
}

require_systemd() {
    local found=
    read -r _ found _ < <(systemctl --version 2>/dev/null) || true
    if [[ ! $found =~ ^[0-9]+ ]] || ((BASH_REMATCH < 252)); then
        fail "needs systemd 252 or later, found ${found:-none}"
    fi
}

require_python() {
    [[ -x $python ]] || fail "needs Python 3.11 or later as $python, found none"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "needs Python 3.11 or later as $python, found $("$python" --version)"
}

# ------------------------------------------------------------------------------------------- dependencies

# By what is there, and not by who has put it there: a host that has everything needs no network.
find_missing_packages() {
    local module
    missing=()
    for module in $(missing_modules); do
        missing+=("$(package_of "$module")")
    done
    command -v git >/dev/null || missing+=(git)
    if [[ ! -e /usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service ]]; then
        missing+=("$(package_of polkit)")
    fi
}

missing_modules() {
    if [[ ! -x $python ]]; then
        echo "${modules[@]}"
        return
    fi
    "$python" -I -c '
import importlib, sys

for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        print(name)
' "${modules[@]}"
}

package_of() {
    case $1:$(package_manager) in
        polkit:dnf) echo polkit ;;
        polkit:*) echo polkitd ;;
        yaml:dnf) echo python3-pyyaml ;;
        *) echo "python3-$1" ;;
    esac
}

require_dependencies() {
    local manager
    find_missing_packages
    ((${#missing[@]})) || return 0
    manager=$(package_manager)
    [[ -n $manager ]] || fail "please install first (by Debian's names): ${missing[*]}"
    echo "Installing ${missing[*]} …" >&2
    run_quietly install_with "$manager" "${missing[@]}" || fail "$manager could not install ${missing[*]}"
    find_missing_packages
    ((${#missing[@]} == 0)) || fail "still missing after the installation: ${missing[*]}"
}

# ------------------------------------------------------------------------------------------- the program

# Where the distribution wants what does not come from it.
site_directory() { "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# The launcher knows: an upgrade of the distribution may have brought another Python, and another directory, since.
installed_site_directory() {
    if [[ -f $destdir$launcher ]]; then
        sed -nE 's/^sys\.path\.append\("(.+)"\)$/\1/p' "$destdir$launcher"
    fi
}

# Made beside the old one and then put in its place, as a whole. Files that are written over one by one would be read
# half by a daemon that starts just then, and by the shell of an engine that is running.
install_package() {
    local site=$1 new=$destdir$1/.gitopsd.new
    rm -rf "$new"
    mkdir -p "$destdir$site"
    cp --recursive --dereference --preserve=timestamps gitopsd "$new"
    find "$new" -name __pycache__ -prune -exec rm -rf {} +
    chmod -R u=rwX,go=rX "$new"
    chmod 755 "$new/gitops_sync.sh"
    must "$python" -I -m compileall -q -d "$site/gitopsd" "$new"
    swap "$new" "$destdir$site/gitopsd"
}

# Exchanged in one step, which not every file system can do. In two steps there is nothing for a millisecond: who starts
# just then fails whole and is started again.
swap() {
    local new=$1 place=$2 old=${1%.new}.old
    rm -rf "$old"
    if [[ ! -e $place ]]; then
        mv --no-target-directory "$new" "$place"
    elif exchange "$new" "$place" 2>/dev/null; then
        rm -rf "$new"
    else
        mv --no-target-directory "$place" "$old"
        mv --no-target-directory "$new" "$place"
        rm -rf "$old"
    fi
}

# `mv --exchange` is newer than Debian 12. -100: relative to the working directory; 2: RENAME_EXCHANGE.
exchange() {
    "$python" -I -c '
import ctypes, os, sys

one, other = (os.fsencode(path) for path in sys.argv[1:])
sys.exit(ctypes.CDLL(None).renameat2(-100, one, -100, other, 2))
' "$1" "$2"
}

# -I keeps out the variables, the home and the directory of whoever calls it. On Fedora it also keeps out /usr/local,
# therefore the path; last, so that nothing beside gitopsd there comes before the distribution's libraries.
install_launcher() {
    put "$launcher" 755 <<END
#!$python -I
import sys
sys.path.append("$1")
from gitopsd.cli import main
main()
END
}

# From stdin, as a whole, with the path that the program has here.
put() {
    local target=$destdir$1 mode=$2
    mkdir -p "${target%/*}"
    sed 's|/usr/bin/gitopsd\b|/usr/local/bin/gitopsd|g' >"$target.new"
    chmod "$mode" "$target.new"
    mv --force --no-target-directory "$target.new" "$target"
}

# ------------------------------------------------------------------------------------------- units

install_units() {
    local path name
    for path in units/*.service units/*.socket units/*.timer; do
        put "$unit_dir/${path##*/}" 644 <"$path"
    done
    for name in "${!places[@]}"; do
        put "${places[$name]}" 644 <"units/$name"
    done
}

install_manual() {
    local pages path
    pages=$(mktemp -d)
    run_quietly "$python" -I -B packaging/man.py "$pages" || fail "the manual pages could not be written"
    for path in "$pages"/*.[1-9]; do
        put "$man_dir/man${path##*.}/${path##*/}" 644 <"$path"
    done
    rm -rf "$pages"
}

# The names of the units of whatever version is installed.
installed_units() {
    local path
    for path in "$destdir$unit_dir"/gitopsd{,-*,@*}.{socket,timer,service}; do
        if [[ -e $path ]]; then echo "${path##*/}"; fi
    done
}

# Those that this version has no more.
outdated_units() {
    local name
    for name in $(installed_units); do
        [[ -e units/$name ]] || echo "$name"
    done
}

# Stops and deletes units. What runs of a template is left alone: a sync goes on to its end.
delete_units() {
    local name plain=() now=()
    for name in "$@"; do
        [[ $name == *@.* ]] || plain+=("$name")
    done
    if is_this_host && ((${#plain[@]})); then
        if is_booted; then now=(--now); fi
        must systemctl disable "${now[@]}" "${plain[@]}"
    fi
    for name in "$@"; do
        rm -f "$destdir$unit_dir/$name"
    done
}

running_syncs() {
    systemctl list-units --plain --no-legend --state=active,activating,deactivating 'gitopsd-sync@*.service' |
        cut -d ' ' -f 1
}

# ------------------------------------------------------------------------------------------- install

install_config() {
    [[ -e $destdir$config || -L $destdir$config ]] || put "$config" 644 <docs/gitopsd.example.yaml
}

# By name and not by path, so that a file of the same name in /etc has its way.
introduce_to_system() {
    label_files "$1"
    must systemd-sysusers gitopsd.conf
    must journalctl --update-catalog
    if is_booted; then
        must systemd-tmpfiles --create gitopsd.conf
        must systemctl daemon-reload
    fi
}

# Under SELinux a file that was moved has the label of where it was made, and a unit with a wrong one is not started.
label_files() {
    if selinuxenabled 2>/dev/null; then
        must restorecon -R "$1/gitopsd" "${places[@]}" "$unit_dir" "${config%/*}"
    fi
}

start_anew() {
    must "$launcher" version
    if is_booted; then
        run_quietly systemctl try-restart gitopsd.service ||
            fail "gitopsd.service did not start again; journalctl -u gitopsd.service says why"
    fi
}

version() { sed -nE 's/^__version__ = "(.*)"$/\1/p' gitopsd/__init__.py; }

print_next_steps() {
    printf 'gitopsd %s is installed. What is next:\n\n' "$(version)"
    printf '  %s\n' \
        'gitopsd init                                # the secret, and what to paste at GitHub' \
        'gitopsd add git@github.com:me/blog.git      # for each repo' \
        'systemctl enable --now gitopsd.socket' \
        'gitopsd status'
}

# The launcher comes last: where it is, an installation is whole, and what is done to it is an upgrade.
install_everything() {
    local site old_site was_there=false
    local -a outdated
    require_whole_checkout
    if is_this_host; then
        require_systemd
        require_dependencies
    fi
    require_python
    if [[ -e $destdir$launcher ]]; then was_there=true; fi
    site=$(site_directory)
    old_site=$(installed_site_directory)

    install_package "$site"
    mapfile -t outdated < <(outdated_units)
    delete_units "${outdated[@]}"
    install_units
    install_manual
    install_config
    if is_this_host; then introduce_to_system "$site"; fi
    install_launcher "$site"
    if [[ -n $old_site && $old_site != "$site" ]]; then rm -rf "$destdir$old_site/gitopsd"; fi
    if is_this_host; then start_anew; fi

    if ! is_this_host; then
        echo "gitopsd $(version) is in $destdir"
    elif $was_there; then
        echo "gitopsd is upgraded to $(version)"
    else
        print_next_steps
    fi
}

# ------------------------------------------------------------------------------------------- remove

delete_program() {
    local site
    for site in $(installed_site_directory) $([[ ! -x $python ]] || site_directory); do
        rm -rf "$destdir$site"/{gitopsd,.gitopsd.new,.gitopsd.old}
    done
    rm -f "$destdir$launcher"
}

# The directories too, where nobody else has anything in them; but not those that belong to the distribution.
delete_places() {
    local path
    for path in "${places[@]}"; do rm -f "$destdir$path"; done
    rm -f "$destdir$man_dir"/man8/{gitopsd,gitops_sync.sh}.8 "$destdir$man_dir/man5/gitopsd.yaml.5"
    for path in "$man_dir"/man{5,8} /usr/local/lib/{systemd/{system,system-preset,catalog},systemd,sysusers.d,tmpfiles.d}; do
        rmdir "$destdir$path" 2>/dev/null || true
    done
}

forget_in_system() {
    must journalctl --update-catalog
    if is_booted; then
        must systemctl daemon-reload
        # One that failed would be listed for as long as the host runs.
        must systemctl reset-failed 'gitopsd.*' 'gitopsd-*'
    fi
}

# The users by name, from the file that made them.
kept_users() {
    sed -nE 's/^u!?[[:space:]]+([^[:space:]]+).*/\1/p' "$destdir${places[gitopsd.sysusers]}" 2>/dev/null || true
}

print_kept() {
    local path left=()
    for path in "${kept[@]}"; do
        if [[ -e $destdir$path ]]; then left+=("$destdir$path"); fi
    done
    if ((${#left[@]})); then echo "Kept: ${left[*]}"; fi
}

remove_everything() {
    local -a units users syncs=()
    mapfile -t units < <(installed_units)
    mapfile -t users < <(kept_users)
    delete_units "${units[@]}"
    if is_booted; then mapfile -t syncs < <(running_syncs); fi
    delete_program
    delete_places
    if is_this_host; then forget_in_system; fi

    echo "gitopsd is removed${destdir:+ from $destdir}."
    print_kept
    if is_this_host && ((${#users[@]})); then echo "Kept: the users ${users[*]}"; fi
    if ((${#syncs[@]})); then echo "Still running, and not stopped: ${syncs[*]}"; fi
}

main() {
    parse_arguments "$@"
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    . scripts/packages.sh
    require_root
    "${action}_everything"
}

main "$@"
