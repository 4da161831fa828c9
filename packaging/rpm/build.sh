#!/usr/bin/env bash
# Builds the package for Fedora from a tree of the sources, on Fedora or on another system that has rpmbuild.
#
#   packaging/rpm/build.sh SOURCE_DIR OUT_DIR
#
# The result is OUT_DIR/gitopsd-VERSION-1.noarch.rpm. Two builds of one tree with one SOURCE_DATE_EPOCH give the same bytes.
set -euo pipefail

readonly contents=(CHANGELOG.md LICENSE README.md docs gitopsd packaging scripts/gitops_sync.sh units)

fail() {
    echo "error: $*" >&2
    exit 1
}

# Fedora's rpmbuild knows where units go, others do not.
is_fedora() { [[ -n $(rpm --eval '%{?_unitdir}') ]]; }

write_spec() {
    # Not an option --load: what that loads is forgotten when rpmbuild turns to its target.
    is_fedora || printf '%%{load:%s}\n' "$source_dir/packaging/rpm/macros.outside-fedora"
    printf '%%global gitopsd_version %s\n' "$version"
    cat "$source_dir/packaging/rpm/gitopsd.spec"
    printf '\n%%changelog\n* %s the gitopsd authors - %s-1\n- What has changed is in CHANGELOG.md.\n' \
        "$(LC_ALL=C date --utc --date="@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')" "$version"
}

# All times are that of the build; whatever is older would keep the time at which somebody made this tree.
write_archive() {
    tar --create --gzip --directory="$source_dir" --exclude=__pycache__ --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
        --owner=0 --group=0 --numeric-owner --transform="s|^|gitopsd-$version/|S" -- "${contents[@]}"
}

build() {
    local options=(
        --target noarch
        --define "_topdir $work"
        --define "_rpmdir $work/made"
        --define "_tmppath $work"
        # Nothing of this machine and this moment.
        --define "_buildhost localhost"
        --define "use_source_date_epoch_as_buildtime 1"
        --define "clamp_mtime_to_source_date_epoch 1"
        # As Fedora's own packages are.
        --define "_binary_payload w19.zstdio"
    )
    # Elsewhere the packages of BuildRequires have other names, and rpm knows of none that is installed.
    is_fedora || options+=(--nodeps)
    rpmbuild -bb "${options[@]}" "$work/SPECS/gitopsd.spec"
}

main() {
    (($# == 2)) || fail "needs two directories; usage: packaging/rpm/build.sh SOURCE_DIR OUT_DIR"
    command -v rpmbuild >/dev/null || fail "needs rpmbuild; Debian has it in rpm, Fedora in rpm-build"
    source_dir=$(realpath -- "$1")
    out_dir=$(realpath --canonicalize-missing -- "$2")
    [[ -f $source_dir/gitopsd/__init__.py ]] || fail "$source_dir is no tree of gitopsd"
    version=$(sed -nE 's/^__version__ = "(.*)"$/\1/p' "$source_dir/gitopsd/__init__.py")
    [[ $version =~ ^[0-9][0-9A-Za-z.~]*$ ]] || fail "gitopsd/__init__.py has no version that rpm understands: '$version'"
    export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date +%s)}
    umask 022

    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work"/{SOURCES,SPECS,made} "$out_dir"
    write_spec >"$work/SPECS/gitopsd.spec"
    cp "$source_dir/units/gitopsd.sysusers" "$work/SOURCES/"
    write_archive >"$work/SOURCES/gitopsd-$version.tar.gz"
    build >"$work/log" 2>&1 || {
        tail -n 40 "$work/log" >&2
        fail "rpmbuild failed"
    }
    mv --force "$work/made/noarch/gitopsd-$version-1.noarch.rpm" "$out_dir/"
}

main "$@"
