#!/bin/bash
# Bring one repo to what its remote has, then deploy it, and go back if that fails. Contract: docs/engine.md
#
# One file, so that an upgrade exchanges it as a whole while it works. Without `set -e`: it is off inside conditions and
# substitutions, where most of this happens. Each step says itself what its failure means, and `fail` is the only way
# out of a sync that did not succeed.
# shellcheck disable=SC2015,SC2329  # A && B || fail: whichever of both fails; what is given to `try` is called
set -uo pipefail
# Names of files are bytes, and git is read by its words. What deploys gets its own locale back.
their_locale=${LC_ALL-}
export LC_ALL=C

readonly DEPLOY_FAILED=1 TRY_AGAIN=75 REFUSED=77 MISCONFIGURED=78

url=${GITOPSD_URL-} ref=${GITOPSD_REF-} path=${GITOPSD_PATH-} strategy=${GITOPSD_STRATEGY:-in-place}
output=${GITOPSD_OUTPUT-} force=${GITOPSD_FORCE-} opt_in=${GITOPSD_OPT_IN-} lock_fd=${GITOPSD_LOCK_FD-}
hint=${GITOPSD_HINT-} pinned=${GITOPSD_REVISION-} state_dir=${GITOPSD_STATE_DIR-}
keep=${GITOPSD_KEEP:-3} submodules=${GITOPSD_SUBMODULES-} depth=${GITOPSD_DEPTH-} filter=${GITOPSD_FILTER-}
rewind=${GITOPSD_REWIND:-refuse} local_changes=${GITOPSD_LOCAL_CHANGES:-refuse} clean=${GITOPSD_CLEAN:-none}
drift=${GITOPSD_DRIFT:-off} verify=${GITOPSD_VERIFY:-none} allowed_signers=${GITOPSD_ALLOWED_SIGNERS-}
keyring=${GITOPSD_KEYRING-} merge_by=${GITOPSD_MERGE_BY-} compose=${GITOPSD_COMPOSE-} settle=${GITOPSD_SETTLE:-5}
rollback=${GITOPSD_ROLLBACK-} time_limit=${GITOPSD_TIMEOUT-}
health_interval=${GITOPSD_HEALTH_INTERVAL:-2} health_tries=${GITOPSD_HEALTH_TRIES:-5}
health_timeout=${GITOPSD_HEALTH_TIMEOUT:-10}

repo="" gate_command=() deploy_command=() health_command=() units=() git_dir="" common_dir="" refs=refs/gitopsd
ssh="" tags="" tag="" all_there="" tip_there="" messages="" attempt="" problem="" tree="" releases=""
at_start="" head="" deployed="" old="" tip="" # revisions
drifted=no went_back="" to_save="" commits_to_save="" in_the_way=()
# For commands that a person may copy; of another user's checkout git refuses to speak.
printf -v git_here 'git -C %q' "$path"
[[ ! ${INVOCATION_ID-} || $EUID == 0 ]] || git_here="sudo -u $(id -un) $git_here"

say() { printf '%s\n' "$*"; }

# In https the user alone can be the token. Elsewhere (ssh) the user is an address, and only its password is hidden,
# also where ssh repeats it without the scheme.
mask() {
    sed -u -E -e 's,((https?|ftps?)://)[^[:space:]]*@,\1***@,g' \
        -e 's,(^|[[:space:]"'\''(=]|://)([^][:space:]/:@[]+):[^[:space:]/]*@,\1\2:***@,g' -e 's,\r$,,'
}

emit() { [[ -z $output ]] || { printf '%s=%s\n' "$1" "$2" >>"$output"; } 2>/dev/null; }

tell() { emit "$1" "$2" || fail "$TRY_AGAIN" "cannot write $output (GITOPSD_OUTPUT); is the disk full?"; }

phase() { # the radix of EPOCHREALTIME is the locale's
    tell phase "$1 at=$EPOCHREALTIME"
}

# The end of a sync that did not succeed; of what is only tried ($attempt) it is the end of that, and why is left there.
fail() {
    local reason
    reason=$(printf '%s' "$2" | mask)
    reason=${reason//[[:cntrl:]]/ }
    [[ $went_back != yes || $attempt || $reason == *"rolled back to"* ]] ||
        reason="rolled back to ${deployed:0:12}; then: $reason"
    printf 'gitops_sync.sh: %s\n' "$reason" >&2
    if [[ $attempt ]]; then printf '%s' "$reason" >"$attempt"; else emit reason "$reason"; fi
    exit "$1"
}

# Try something that may fail without an end to the sync; then $problem says why. What it sets is gone.
try() {
    local file=$git_dir/gitopsd-problem status
    [[ $git_dir ]] || file=$(mktemp) || fail "$TRY_AGAIN" "cannot make a temporary file; is the disk full?"
    remove_files "$file"
    (attempt=$file && "$@")
    status=$? problem=""
    [[ ! -e $file ]] || problem=$(<"$file")
    remove_files "$file"
    return $status
}

refuse() { fail "$REFUSED" "$1"; }

first_five() {
    local names=("${@:1:5}") joined
    printf -v joined '%s, ' "${names[@]}"
    printf '%s' "${joined%, }"
    (($# <= 5)) || printf ' and %d more' $(($# - 5))
}

# The time, to name things by.
utc_now() { TZ=UTC printf '%(%Y%m%dT%H%M%S)T.%sZ' -1 "${EPOCHREALTIME: -6}"; }

# Write lines to the file $1: it is there as a whole, or as it was.
replace_file() { printf '%s\n' "${@:2}" >"$1.new" && mv -f -- "$1.new" "$1"; }

# Those that are there: mostly none is, and a process less is a sync that is faster.
remove_files() {
    local file
    for file; do
        [[ ! -e $file && ! -L $file ]] || rm -f -- "$file" || return
    done
}

# What an operator may have switched on in the checkout and what would outlive us or reach beyond it stays off. What git
# has written is on the disk when it ends: a power cut must not leave a ref without its commit.
git() {
    local -x GIT_TERMINAL_PROMPT=0
    [[ ! $ssh ]] || local -x GIT_SSH_COMMAND=$ssh
    command git --no-replace-objects -c core.fsmonitor=false -c core.quotePath=false -c submodule.recurse=false \
        -c core.fsync=loose-object,pack,pack-metadata,reference -c fetch.unpackLimit=1 "$@"
}

revision() { git rev-parse --verify --quiet "$1^{commit}"; }

is_ancestor() { [[ $1 && $2 ]] && { [[ $1 == "$2" ]] || git merge-base --is-ancestor "$1" "$2" 2>/dev/null; }; }

is_release() { [[ $strategy == release ]]; }

on_branch() { [[ $(git symbolic-ref --quiet HEAD) == "refs/heads/$ref" ]]; }

# Whether HEAD is of the kind that it has to be: the branch, or none where tags are followed.
on_ref() { if [[ $tags ]]; then ! git symbolic-ref --quiet HEAD >/dev/null; else on_branch; fi; }

stands_at() { on_ref && [[ $(revision HEAD) == "$1" ]]; }

# Run git with its words shown as they come and kept in $messages. Not for what runs hooks: a daemon started by one
# would hold the pipe, and we would wait for its end.
watch_git() {
    messages=$(git "$@" 2>&1 | mask | while IFS= read -r line; do
        printf '%s\n' "$line" >&2
        printf '%s\n' "$line"
    done)
}

# The line of $messages that says most: the first error (those after it follow from it), else the last line.
useful_line() {
    local line last=""
    while IFS= read -r line; do
        case $line in
            "" | hint:* | warning:* | "From "* | "Please make sure"* | "and the repository exists."*) continue ;;
            # Alone, or below what ssh has said; above the line that has the file's name.
            "fatal: Could not read from remote repository."* | "error: external filter "*) last=${last:-$line} && continue ;;
            "error: unable to write "*) printf '%s; is the disk full?' "$line" && return ;;
            fatal:* | error:* | ERROR:*) printf '%s' "$line" && return ;;
        esac
        last=$line
    done <<<"$messages"
    printf '%s' "${last:-git did not say why}"
}

### configuration

read_configuration() {
    (($# == 1)) || fail "$MISCONFIGURED" "use: GITOPSD_URL=… GITOPSD_REF=… GITOPSD_PATH=… gitops_sync.sh REPO"
    repo=$1
    [[ $repo =~ ^[a-z0-9][a-z0-9._-]{0,62}$ ]] ||
        fail "$MISCONFIGURED" "repo '$repo': the name must match ^[a-z0-9][a-z0-9._-]{0,62}\$"
    [[ $url$ref$path != *[[:cntrl:]]* ]] || fail "$MISCONFIGURED" "$repo: url, ref or path has a control character"
    [[ $path == /* ]] || fail "$MISCONFIGURED" "$repo: GITOPSD_PATH '$path' is not an absolute path"
    [[ $path == / ]] || path=${path%/}
    one_of STRATEGY "$strategy" in-place release none
    [[ $strategy == none ]] || read_remote
    [[ $strategy == none ]] || read_policies
    [[ $lock_fd =~ ^([3-9]|[1-9][0-9]+)?$ ]] ||
        fail "$MISCONFIGURED" "$repo: GITOPSD_LOCK_FD '$lock_fd' is not the number of an inherited file descriptor"
    read_commands
    [[ $strategy != none ]] || ((${#deploy_command[@]})) ||
        fail "$MISCONFIGURED" "$repo: GITOPSD_DEPLOY is empty, and there is nothing else to do with GITOPSD_STRATEGY=none"
}

one_of() {
    local name=$1 value=$2
    shift 2
    [[ " $* " == *" $value "* ]] || fail "$MISCONFIGURED" "$repo: GITOPSD_$name '$value' is unknown; use one of: $*"
}

number() { [[ $2 =~ ^[0-9]+([.][0-9]+)?$ ]] || fail "$MISCONFIGURED" "$repo: GITOPSD_$1 '$2' is not a number"; }

words() {
    eval "$2=($3)" 2>/dev/null || fail "$MISCONFIGURED" "$repo: GITOPSD_$1 is not a list of shell words: $3"
}

read_commands() {
    words GATE gate_command "${GITOPSD_GATE-}"
    words DEPLOY deploy_command "${GITOPSD_DEPLOY-}"
    words HEALTH health_command "${GITOPSD_HEALTH-}"
    read -ra units <<<"${GITOPSD_UNITS-}"
    number SETTLE "$settle"
    number TIMEOUT "${time_limit:-0}"
    number HEALTH_INTERVAL "$health_interval"
    [[ $health_tries =~ ^[1-9][0-9]*$ ]] || fail "$MISCONFIGURED" "$repo: GITOPSD_HEALTH_TRIES '$health_tries' is no number"
    number HEALTH_TIMEOUT "$health_timeout"
}

read_remote() {
    type -P git >/dev/null || fail "$MISCONFIGURED" "git is not installed (PATH=$PATH)" # not our function of that name
    [[ $url != -* && ($url == /* || $url == *:*) ]] ||
        fail "$MISCONFIGURED" "$repo: GITOPSD_URL '$url' is neither a URL nor an absolute path"
    if [[ $ref == refs/tags/?* || ($ref == *[*?]* && $ref != refs/*) ]]; then
        tags=${ref#refs/tags/}
        [[ $(command git check-ref-format --branch "${tags//[*?]/x}" 2>/dev/null) && $tags != *[[\\]* ]] ||
            fail "$MISCONFIGURED" "$repo: GITOPSD_REF '$ref' is not a pattern of tags"
    else
        ref=${ref#refs/heads/}
        [[ $ref != refs/* && $(command git check-ref-format --branch "$ref" 2>/dev/null) == "$ref" && $ref ]] ||
            fail "$MISCONFIGURED" "$repo: GITOPSD_REF '$ref' is not a branch name"
    fi
    [[ $hint =~ ^([0-9a-f]{40}|[0-9a-f]{64})?$ ]] || fail "$MISCONFIGURED" "$repo: GITOPSD_HINT '$hint' is not a commit id"
    [[ $pinned =~ ^([0-9a-f]{40}|[0-9a-f]{64})?$ ]] ||
        fail "$MISCONFIGURED" "$repo: GITOPSD_REVISION '$pinned' is not a commit id"
}

read_policies() {
    one_of REWIND "$rewind" refuse allow
    one_of LOCAL_CHANGES "$local_changes" refuse rescue
    one_of CLEAN "$clean" none untracked
    one_of DRIFT "$drift" off report repair
    one_of VERIFY "$verify" none ssh gpg
    [[ $depth =~ ^[1-9][0-9]*$ || ! $depth ]] || fail "$MISCONFIGURED" "$repo: GITOPSD_DEPTH '$depth' is not a whole number"
    [[ $filter =~ ^[a-z]+:[a-z0-9=]+$ || ! $filter ]] || fail "$MISCONFIGURED" "$repo: GITOPSD_FILTER '$filter' is no filter"
    [[ $verify != ssh || -r $allowed_signers ]] ||
        fail "$MISCONFIGURED" "$repo: GITOPSD_ALLOWED_SIGNERS '$allowed_signers' cannot be read"
    [[ $verify != gpg || -r $keyring ]] || fail "$MISCONFIGURED" "$repo: GITOPSD_KEYRING '$keyring' cannot be read"
    is_release || return 0
    [[ $keep =~ ^([2-9]|[1-9][0-9]+)$ ]] || fail "$MISCONFIGURED" "$repo: GITOPSD_KEEP '$keep' is not a whole number from 2"
    [[ $state_dir == /* ]] || fail "$MISCONFIGURED" "$repo: GITOPSD_STATE_DIR '$state_dir' is not an absolute path"
    [[ $path != / && $opt_in != yes ]] || fail "$MISCONFIGURED" "$repo: $path cannot be a release"
    releases=$(realpath -m -- "$(dirname -- "$path")")/.${path##*/}.releases
}

### prepare: the repository, and what a sync that was cut off has left in it

is_empty() { [[ -d $1 && -r $1 && -x $1 ]] && (shopt -s dotglob nullglob && set -- "$1"/* && (($# == 0))); }

# A first checkout that was cut off before its .git was whole; see start_checkout.
start_was_cut_off() { [[ -e $path/.git/gitopsd-start ]] || { [[ ! -L $path/.git ]] && is_empty "$path/.git"; }; }

open_checkout() {
    local message places
    cd -P -- "$path" 2>/dev/null || refuse "cannot enter $path as $(id -un); check its owner and mode"
    mapfile -t places < <(git rev-parse --absolute-git-dir --show-toplevel --git-common-dir 2>/dev/null)
    if ((${#places[@]} != 3)) && ! message=$(git rev-parse --git-dir 2>&1); then
        [[ $message != *"dubious ownership"* && $message != *"owned by someone else"* ]] ||
            refuse "dubious ownership: $path belongs to $(stat -c '%U (uid %u)' .), the sync runs as \
$(id -un) (uid $(id -u)); let it run as the owner (User=), or chown -R the checkout"
        refuse "$path/.git is no repository that git can use: ${message%%$'\n'*}"
    fi
    # A broken .git makes git look for a repository further up, and that one is not ours.
    [[ ${#places[@]} == 3 && ${places[1]} == "$PWD" ]] ||
        refuse "$path is not the top of a checkout; repair its .git, or move it away"
    git_dir=${places[0]} common_dir=${places[0]}
    # The worktrees of one repository share their refs, and each is a repo of its own here.
    [[ $git_dir -ef ${places[2]} ]] || { refs=refs/worktree/gitopsd && common_dir=$(cd -- "${places[2]}" && pwd -P); }
}

# What all URLs of one remote have in common.
remote_identity() {
    local host="" rest=$1
    if [[ $rest =~ ^file://(localhost)?(/.*)$ ]]; then
        rest=${BASH_REMATCH[2]}
    elif [[ $rest =~ ^[^/:]+://([^/]*@)?(\[[^]/]*\]|[^/:]*)(:[0-9]*)?(/.*)?$ ]]; then
        host=${BASH_REMATCH[2]} rest=${BASH_REMATCH[4]}
    elif [[ $rest =~ ^([^/:]*@)?(\[[^]/]*\]|[^/:]+):(.*)$ ]]; then
        host=${BASH_REMATCH[2]} rest=${BASH_REMATCH[3]}
    fi
    if [[ $host ]]; then rest=/$rest; fi
    rest=$(realpath -ms -- "$rest")
    rest=${rest%.git}
    printf '%s' "${host,,}${rest%/}"
}

check_remote() {
    local origin wanted
    [[ $(git config --get-all remote.origin.url) != "$url" ]] || return 0
    origin=$(git remote get-url origin 2>/dev/null) ||
        refuse "no origin: $path has no remote 'origin'; run: $git_here remote add origin $url"
    wanted=$(git ls-remote --get-url -- "$url") # url.<base>.insteadOf, as get-url does it
    [[ $(remote_identity "$origin") == "$(remote_identity "$wanted")" ]] ||
        refuse "wrong remote: the origin of $path is $origin, and $repo is configured with $url; \
correct the configuration, or run: $git_here remote set-url origin $url"
}

# What a power cut may leave of a ref: git would not speak of any other, either.
remove_empty_refs() {
    local ref empty=()
    mapfile -d '' -t empty < <(
        shopt -s globstar nullglob
        for ref in "$common_dir"/refs/gitopsd/** "$git_dir"/refs/worktree/gitopsd/**; do
            [[ ! -f $ref || -s $ref ]] || printf '%s\0' "$ref"
        done
    )
    remove_files "${empty[@]}"
}

# Print the id of a git that works in one of the given directories. A process whose place we may not see counts when
# its user owns one of the locks ($1: their owners).
live_git() {
    local process name words word here user place owners=$1
    shift
    for process in /proc/[0-9]*; do
        { read -r name <"$process/comm" && mapfile -d '' -t words <"$process/cmdline"; } 2>/dev/null || continue
        [[ $name == git || $name == git-* ]] || continue
        # A zombie has no words; daemons (fsmonitor--daemon) sit in a checkout for days and hold no lock.
        [[ ${words[*]} && " ${words[*]} " != *"--daemon "* ]] || continue
        if ! here=$(readlink "$process/cwd" 2>/dev/null) && user=$(stat -c %u "$process" 2>/dev/null); then
            [[ " $owners " != *" $user "* ]] || here=$1
        fi
        for place in "$@"; do
            for word in "$here" "${words[@]}"; do
                [[ $word/ != "$place"/* && $word/ != *="$place"/* ]] || { say "${process##*/}" && return; }
            done
        done
    done
    return 1
}

# Locks, and packs that are being written; ended by NUL.
git_locks() {
    local place each places=("$common_dir") files=()
    [[ $git_dir -ef $common_dir ]] || places+=("$git_dir")
    shopt -s globstar nullglob
    for place in "${places[@]}"; do
        files+=("$place"/*.lock "$place"/refs/**/*.lock)
    done
    ! is_release || files+=("$common_dir"/worktrees/*/*.lock)
    for each in "${files[@]}" "$common_dir"/objects/*/{*.lock,tmp_*}; do
        [[ ! -f $each || -L $each ]] || printf '%s\0' "$each"
    done
}

# The repo's lock is ours, so a lock of git's belongs to a dead git or to somebody outside gitopsd. What lives is
# looked for after the locks: a git that comes later finds its lock taken and goes away.
remove_stale_locks() {
    local locks lock pid places owners
    mapfile -d '' -t locks < <(git_locks)
    ((${#locks[@]})) || return 0
    mapfile -t places < <(git worktree list --porcelain 2>/dev/null | sed -n 's/^worktree //p')
    owners=$(stat -c %u "${locks[@]}" 2>/dev/null | sort -u | tr '\n' ' ')
    if pid=$(live_git "$owners" "$path" "$(pwd -P)" "$git_dir" "$common_dir" "${places[@]}"); then
        fail "$TRY_AGAIN" "git (pid $pid) is at work in $PWD and ${locks[0]} is there; wait for its end, or end it"
    fi
    for lock in "${locks[@]}"; do
        rm -f -- "$lock" || fail "$TRY_AGAIN" "cannot remove the stale lock $lock; remove it"
        say "prepare: removed $lock, which a dead git left behind"
    done
}

# What a sync that was cut off was about to write.
remove_scraps() { remove_files "$git_dir"/gitopsd-{messages,problem,rescue} "$git_dir"/gitopsd-*.new; }

unfinished() {
    local name
    for name in MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD rebase-merge rebase-apply BISECT_LOG; do
        [[ ! -e $git_dir/$name ]] || { say "$name" && return; }
    done
    return 1
}

### rescue: what is somebody's work is saved as a commit under a ref of its own before it is taken out

# Commit the tree $1 with the parents that follow $2, the message.
commit_tree() {
    local tree=$1 message=$2 parents=() parent
    shift 2
    for parent; do parents+=(-p "$parent"); done
    GIT_AUTHOR_NAME=gitopsd GIT_AUTHOR_EMAIL=gitopsd@localhost GIT_COMMITTER_NAME=gitopsd \
        GIT_COMMITTER_EMAIL=gitopsd@localhost git commit-tree "$tree" "${parents[@]}" -m "$message"
}

# Name the commit $1 so that nothing removes it; $2 says what it is.
keep_rescue() {
    local name
    [[ ! $(git for-each-ref --count=1 --points-at="$1" refs/gitopsd/rescue) ]] || return 0
    name=refs/gitopsd/rescue/$(utc_now)
    git update-ref "$name" "$1" "" && sync -f -- "$common_dir" || return
    emit rescued "$name"
    say "rescue: saved $2 as $name"
}

# Files that git was told to overlook (assume-unchanged, skip-worktree) and that are there; ended by NUL.
overlooked() {
    local name
    git ls-files -v -z | sed -zn 's/^[a-zS] //p' | while IFS= read -r -d '' name; do
        [[ ! -e $name && ! -L $name ]] || printf '%s\0' "$name"
    done
}

# Make a copy of the index as $1, for which git overlooks nothing that is there. With the time of the original: by that
# git knows which files may have changed within the moment when they were last looked at.
copy_index() {
    local names
    remove_files "$1"
    cp -p -- "$(git rev-parse --git-path index)" "$1" || return
    mapfile -d '' -t names < <(overlooked)
    ((${#names[@]})) || return 0
    printf '%s\0' "${names[@]}" | GIT_INDEX_FILE=$1 git update-index --no-assume-unchanged -z --stdin &&
        printf '%s\0' "${names[@]}" | GIT_INDEX_FILE=$1 git update-index --no-skip-worktree -z --stdin
}

# Save how the tree around us differs from HEAD: files in git that were changed or removed, and those named on stdin,
# ended by NUL. What is in the index alone is the second parent, as in a stash. $1 says why.
save_work() {
    local why=$1 index tree at staged parents commit names
    index=$(git rev-parse --absolute-git-dir)/gitopsd-rescue
    at=$(revision HEAD) && parents=("$at") && staged=$(git write-tree) || return
    copy_index "$index" || return
    GIT_INDEX_FILE=$index git add --update -- . && GIT_INDEX_FILE=$index git update-index --add --replace -z --stdin &&
        tree=$(GIT_INDEX_FILE=$index git write-tree) && rm -f -- "$index" || return
    if [[ $staged != "$tree" && $staged != "$(git rev-parse "$at^{tree}")" ]]; then
        parents+=("$(commit_tree "$staged" "$why: the index" "$at")") || return
    elif [[ $tree == "$(git rev-parse "$at^{tree}")" ]]; then
        return 0
    fi
    commit=$(commit_tree "$tree" "$why" "${parents[@]}") || return
    mapfile -d '' -t names < <(git diff-tree -r -z --name-only --no-renames "$at" "$commit")
    keep_rescue "$commit" "$(first_five "${names[@]}")"
}

# Print, ended by NUL, what stands on the disk where the file $1 belongs: itself, a file or link in the place of one of
# its directories, or all that a directory in its own place holds.
standing() {
    local part="" rest=$1
    while [[ $rest == */* ]]; do
        part+=${rest%%/*} rest=${rest#*/}
        if [[ -L $part || -f $part ]]; then printf '%s\0' "$part" && return; fi
        part+=/
    done
    if [[ -L $1 || -f $1 ]]; then
        printf '%s\0' "$1"
    elif [[ -d $1 ]]; then
        find "./$1" \( -type f -o -type l \) -print0
    fi
}

# Save how the tree around us differs from HEAD, and put that back: the files in git that were changed, with what stands
# in their place, and those named on stdin, ended by NUL. $1 says why.
put_away() {
    local names name
    mapfile -d '' -t names < <({ git diff-index -z --name-only --no-renames --ignore-submodules=all HEAD -- && cat; } |
        sort -zu)
    ((${#names[@]})) || return 0
    for name in "${names[@]}"; do standing "$name"; done | save_work "$1" &&
        printf '%s\0' "${names[@]}" | git --literal-pathspecs restore --source=HEAD --staged --worktree --quiet \
            --ignore-skip-worktree-bits --pathspec-from-file=- --pathspec-file-nul
}

# Save files that are not in git, whose names are on stdin, ended by NUL, and remove them, with the directories that are
# empty then. $1 says why.
take_out() {
    local names
    mapfile -d '' -t names
    ((${#names[@]})) || return 0
    printf '%s\0' "${names[@]}" | save_work "$1" && printf '%s\0' "${names[@]}" | xargs -0 rm -f -- || return
    printf '%s\0' "${names[@]}" | grep -z / | xargs -0 -r dirname -z -- | sort -zu |
        xargs -0 -r rmdir -p --ignore-fail-on-non-empty --
    return 0
}

# Save what stands in the way of the revision $1 and is neither in it nor in the tree $2, as a commit under its own ref.
save_rescue() {
    local target=$1 before=$2 index=$git_dir/gitopsd-rescue entry names tree commit
    rm -f -- "$index"
    { git ls-files -s -z && git ls-tree -r -z "$target" && git ls-tree -r -z "$before"; } |
        while IFS= read -r -d '' entry; do
            [[ $entry == 160000* ]] || standing "${entry#*$'\t'}"
        done | sort -zu | GIT_INDEX_FILE=$index git update-index --add --replace -z --stdin || return
    mapfile -d '' -t names < <(comm -z -12 \
        <(GIT_INDEX_FILE=$index git diff-index --cached --name-only --diff-filter=AMT -z "$target") \
        <(GIT_INDEX_FILE=$index git diff-index --cached --name-only --diff-filter=AMT -z "$before"))
    tree=$(GIT_INDEX_FILE=$index git write-tree) && rm -f -- "$index" || return
    ((${#names[@]})) || return 0
    commit=$(commit_tree "$tree" "Found when the activation of $target was finished: $(first_five "${names[@]}")" \
        ${head:+"$head"}) || return
    keep_rescue "$commit" "what is in neither revision ($(first_five "${names[@]}"))"
}

### the strategy in-place

# An activation that was cut off left files of two revisions and the marker. Finish it; nobody's work is in the tree,
# as select saw to that, except what came since: that is saved first. Where the operator moved on, the marker is void.
finish_activation() {
    local target before staged
    target=$(revision $refs/activating) || return 0
    head=$(revision HEAD)
    before=${head:-$(git hash-object -t tree --stdin </dev/null)}
    # A power cut can leave an empty index. It held one of the two revisions, so it is not missed.
    git ls-files >/dev/null 2>&1 || { rm -f -- "$git_dir/index" && git read-tree "$before"; }
    staged=$(git write-tree --missing-ok 2>/dev/null)
    if unfinished >/dev/null || { [[ $head && $head != "$target" && $head != "$(revision $refs/from)" ]]; } ||
        [[ $staged != "$(git rev-parse "$before^{tree}")" && $staged != "$(git rev-parse "$target^{tree}")" ]]; then
        say "prepare: the activation of $target was cut off, and somebody worked here since; leaving the tree as it is"
    else
        say "prepare: the activation of $target was cut off; finishing it"
        save_rescue "$target" "$before" ||
            fail "$TRY_AGAIN" "cannot save the files in $path before finishing the activation of $target; see the log"
        if on_ref; then
            git reset --quiet --hard "$target"
        else # it was a switch from another branch: back to that
            git read-tree --reset -u "$target" && git read-tree --reset -u "$before"
        fi || fail "$TRY_AGAIN" "cannot finish the activation of $target in $path; see the log"
    fi
    end_activation
}

prepare_checkout() {
    [[ ! -L $path || $(readlink -- "$path") != ".${path##*/}.releases/"* ]] ||
        refuse "$path is in the way: it leads to a release of the strategy before; move it away"
    if [[ ! -e $path/.git && ! -L $path/.git ]] || start_was_cut_off; then
        [[ $opt_in != yes ]] || refuse "not opted in: $path is no checkout with a .gitops file at its top"
        [[ ! -e $path || -d $path ]] || refuse "$path is in the way: it is not a directory; move it away"
        [[ ! -e $path ]] || is_empty "$path" || start_was_cut_off ||
            refuse "$path is not empty and no git checkout; move it away, or clone $url there by hand"
        return
    fi
    open_checkout
    deployed=$(revision $refs/deployed)
    # While an activation is cut off, .gitops may be among the files that are missing.
    [[ $opt_in != yes || -f .gitops ]] || revision $refs/activating >/dev/null ||
        refuse "not opted in: $path has no .gitops file at its top; add one, commit and push it"
    check_remote
    remove_empty_refs
    remove_stale_locks
    remove_scraps
    at_start=$(revision HEAD)
    old=${deployed:-$at_start}
    finish_activation
    drop_gate_tree
}

### fetch

refuse_no_ref() {
    [[ ! $tags ]] || refuse "the remote has no tag $tags: $url; push one, or correct the ref of $repo"
    refuse "the remote has no branch $ref: $url; push it there, or correct the ref of $repo"
}

# What the remote has: $tip_there, and of tags $tag, the highest version that is followed, and $all_there, their lines.
ask_remote() {
    local line name wanted="refs/heads/$ref"
    [[ ! $tags ]] || wanted="refs/tags/$tags"
    tip_there="" tag=""
    watch_git -c versionsort.suffix=- ls-remote --refs --sort=-version:refname -- "$url" "$wanted" ||
        fail "$TRY_AGAIN" "fetch: $(useful_line) ($url)"
    while IFS= read -r line; do
        name=${line#*$'\t'}
        if [[ ! $tags ]]; then
            [[ $name != "refs/heads/$ref" ]] || tip_there=${line%%$'\t'*}
            continue
        fi
        name=${name#refs/tags/}
        [[ $line == *$'\t'refs/tags/* ]] && is_followed "$name" || continue
        tip_there=${line%%$'\t'*} tag=$name
        break
    done <<<"$messages"
    all_there=$messages$'\n'
    [[ $tip_there ]] || refuse_no_ref
}

# A tag with a hyphen is a pre-release, and counts only where the pattern has one, too.
is_followed() {
    local slashes=${tags//[!\/]/}
    # shellcheck disable=SC2053  # a pattern
    [[ $1 == $tags && ($tags == *-* || $1 != *-*) && ($tags == *'**'* || ${1//[!\/]/} == "$slashes") ]]
}

# Every step can be repeated, so one that was cut off is begun again, and gitopsd-start says that this .git is ours.
start_checkout() {
    local format=sha1 branch=$ref
    ask_remote
    [[ ! $tags ]] || branch=main
    ((${#tip_there} == 40)) || format=sha256
    say "fetch: starting a checkout in $path"
    { mkdir -p -- "$path/.git" && touch -- "$path/.git/gitopsd-start" && cd -- "$path"; } ||
        fail "$TRY_AGAIN" "cannot create $path as $(id -un); run: install -d -o $(id -un) $path, and see that its unit \
may write there (gitopsd check)"
    git_dir=$path/.git common_dir=$path/.git
    remove_stale_locks
    { git init --quiet --initial-branch="$branch" --object-format=$format &&
        git config remote.origin.url "$url" &&
        git config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*' &&
        keep_partial && follow_branch && rm -- .git/gitopsd-start; } ||
        fail "$TRY_AGAIN" "cannot start a checkout in $path; see the log"
    open_checkout
}

# So that what git left out is fetched from origin when it is needed.
keep_partial() {
    [[ ! $filter ]] || { git config remote.origin.promisor true && git config remote.origin.partialCloneFilter "$filter"; }
}

follow_branch() {
    [[ ! $tags ]] || return 0
    git config "branch.$ref.remote" origin && git config "branch.$ref.merge" "refs/heads/$ref"
}

# By URL and not by name, so that a refused sync leaves refs/remotes/origin as the operator knows it. No maintenance in
# the background: it would outlive us and keep the repo's lock.
fetch() {
    local shown=$url
    phase fetch
    [[ $url != *@* ]] || shown=$(mask <<<"$url")
    if [[ $pinned && $git_dir && $(revision "$pinned") ]]; then
        say "fetch: left out, as ${pinned:0:12} is here"
        tip=$pinned
    else
        say "fetch: ${tags:+tags }${tags:-$ref} from $shown"
        [[ $git_dir ]] || start_checkout
        fetch_tip
        wait_for_hint
    fi
    tell old_revision "$old"
    if [[ $pinned ]]; then
        tip=$(revision "$pinned") || refuse "there is no revision ${pinned:0:12} in $repo, nor does ${tags:-$ref} have it"
    fi
    tell new_revision "$tip"
}

fetch_tip() {
    local from=$url spec="+refs/heads/$ref:$refs/tip" options=()
    if [[ $tags ]]; then
        ask_remote
        spec="+refs/tags/$tag:$refs/tip"
    fi
    # Once there is a beginning, what came since is fetched whole: else nothing would tell a rewritten history.
    [[ ! $depth || $(revision $refs/tip) || $(revision HEAD) ]] || options+=(--depth="$depth")
    [[ ! $filter ]] || options+=(--filter="$filter" --refmap=) from=origin
    options+=(--no-recurse-submodules --no-auto-maintenance --no-write-fetch-head --no-prune)
    # Tags come along. One that cannot be here beside another must not keep the branch away.
    if ! watch_git fetch "${options[@]}" -- "$from" "$spec" &&
        { [[ $messages != *"refs/tags/"* ]] || ! watch_git fetch --no-tags "${options[@]}" -- "$from" "$spec"; }; then
        [[ ${messages,,} != *"couldn't find remote ref"* ]] || refuse_no_ref
        refuse_damaged
        fail "$TRY_AGAIN" "fetch: $(useful_line) ($url)"
    fi
    tip=$(revision $refs/tip) || fail "$TRY_AGAIN" "fetch: ${tag:-$ref} of $url is not a commit"
}

# What does not pass by itself.
refuse_damaged() {
    local whole="move it away, and $repo is fetched anew (what was rescued is in it)"
    case $messages in
        *"mismatched algorithms"*) refuse "the remote was made anew in another object format, which $git_dir has not; $whole" ;;
        *"error: object file "*" is empty"* | *"loose object "*" is corrupt"* | *"bad object refs/"*)
            git fsck --no-dangling --no-progress >/dev/null 2>&1 || # or it is the remote that is
                refuse "damaged: $git_dir lacks parts since a crash ($(useful_line)); $whole" ;;
    esac
}

# Some forges announce a push before their ref has moved, and a mirror may lag behind. What does not come within moments was
# pushed away again, or never was: the tip is the truth.
wait_for_hint() {
    local pause
    for pause in 0.5 1 2; do
        if [[ ! $hint || $(revision "$hint") ]]; then return; fi
        say "fetch: the remote does not have ${hint:0:12} yet, of which it was told; once more in $pause s"
        sleep "$pause"
        fetch_tip
    done
}

### select

# Files in git that are not as they should be in the tree around us, in $changes.
look_for_changes() {
    changes=$(git status --porcelain --untracked-files=no --no-renames --ignore-submodules=all) ||
        fail "$TRY_AGAIN" "select: git status failed in $PWD; see the log"
}

see_to_local_changes() {
    local changes lines operation moves=yes at
    at=$(revision HEAD)
    ! operation=$(unfinished) || refuse "local changes: an unfinished merge, rebase or bisect ($operation) in $path; \
finish or abort it"
    look_for_changes
    ! stands_at "$tip" || moves=no
    [[ $moves == no ]] || see_to_overlooked
    [[ $changes ]] || return 0
    say "$changes"
    mapfile -t lines <<<"$changes"
    [[ ! $(git ls-files --unmerged) ]] || refuse "local changes: a conflict in $path that nobody has resolved; resolve it, \
or put it away with: $git_here reset --merge"
    # What a deploy has changed that was cut off, and that is to be gone back from if it fails, is in the way of nothing.
    if [[ $drift == repair || ($local_changes == rescue && $moves == yes) ||
        ($rollback == yes && $deployed && $at != "$deployed" && $at == "$(revision $refs/tried)") ]]; then
        [[ $moves == yes ]] || drifted=yes
        to_save=changes
    elif [[ $moves == no && $drift == report ]]; then
        refuse_drift "${lines[@]#???}"
    elif [[ $moves == yes || $local_changes == refuse ]]; then
        refuse "local changes: ${#lines[@]} in $path: $(first_five "${lines[@]#???}"); \
commit and push them, or put them away with: $git_here stash"
    fi
}

# Files that git was told to overlook may differ from what it has, and stay as they are, unless the tip changes them.
see_to_overlooked() {
    local index=$git_dir/gitopsd-rescue
    [[ $(revision HEAD) ]] && (($(overlooked | wc -c))) || return 0
    copy_index "$index" || fail "$TRY_AGAIN" "select: cannot write $index; is the disk full?"
    mapfile -d '' -t in_the_way < <(comm -z -12 <(GIT_INDEX_FILE=$index git diff-files -z --name-only --diff-filter=MT |
        sort -z | comm -z -12 - <(overlooked | sort -z)) \
        <(git diff-tree -r -z --name-only --no-renames HEAD "$tip" | sort -z))
    rm -f -- "$index"
    ((${#in_the_way[@]})) || return 0
    [[ $local_changes == rescue ]] || refuse "local changes: ${#in_the_way[@]} in $path that git was told to overlook, and \
that ${tip:0:12} changes: $(first_five "${in_the_way[@]}"); move them away, and run: $git_here update-index \
--no-assume-unchanged --no-skip-worktree"
    to_save=changes
}

# Submodules that are here and where the revision $1 has files: git would remove them, with all that is in them.
see_to_submodules() {
    local entry name names=()
    while IFS= read -r -d '' entry; do
        name=${entry#*$'\t'}
        [[ -d $name ]] && ! is_empty "$name" || continue
        entry=$(git ls-tree "$1" -- "$name")
        [[ ! $entry || $entry == 160000* ]] || names+=("$name")
    done < <(git ls-files --stage -z | grep -z '^160000 ')
    ((${#names[@]} == 0)) || refuse "in the way: ${1:0:12} has files in $path where submodules are: \
$(first_five "${names[@]}"); move them away"
}

refuse_drift() {
    refuse "drift: $# files in $path are not those of ${tip:0:12}: $(first_five "$@"); \
see $git_here diff, and put them back with: $git_here checkout -- ."
}

# What the tip does not contain is either what the remote had before, or somebody's work. What we tried, and what did not
# come to a good end, was none to keep.
see_to_divergence() {
    local base=$1 origin commits
    origin=$(revision "refs/remotes/origin/$ref")
    if is_ancestor "$base" "$deployed" || is_ancestor "$base" "$origin"; then
        [[ $rewind == refuse && ! $pinned ]] || return 0
        [[ $base != "$(revision $refs/tried)" ]] || ! is_ancestor "$deployed" "$tip" || return 0
        refuse "history rewound: $ref was at ${base:0:12} and the remote now has ${tip:0:12}, which does not contain it; \
if that is wanted, run: $git_here reset --keep ${tip:0:12}"
    fi
    if [[ $local_changes == rescue ]]; then
        commits_to_save=$base
        return 0
    fi
    # shellcheck disable=SC2086  # each is empty or one revision
    commits=$(git log --format='%h %s' "$base" --not "$tip" $deployed $origin)
    say "$commits"
    mapfile -t commits <<<"$commits"
    refuse "local commits: ${#commits[@]} on $ref in $path that the remote does not have: \
$(first_five "${commits[@]}"); push or rebase them, or run: $git_here reset --keep ${tip:0:12}"
}

# Tags need not follow from one another, but versions do.
see_to_version() {
    local before at
    [[ $tag && $rewind == refuse && ! $pinned ]] || return 0
    { read -r before && read -r at; } 2>/dev/null <"$git_dir/gitopsd-tag" && is_followed "$before" || return 0
    if [[ $tag == "$before" ]]; then
        [[ $at == "$tip" ]] || refuse "history rewound: the tag $tag was ${at:0:12} and is now ${tip:0:12} on the \
remote; if that is wanted, set rewind: allow"
    elif [[ $all_there != *$'\t'"refs/tags/$before"$'\n'* &&
        $(printf '%s\n' "${tag//-/\~}" "${before//-/\~}" | sort -V | head -n 1) == "${tag//-/\~}" ]]; then
        refuse "history rewound: $before is deployed, and the highest version on the remote is $tag; if that is wanted, \
set rewind: allow"
    fi
}

select_in_place() {
    local base there
    see_to_local_changes
    see_to_submodules "$tip"
    head=$(revision HEAD)
    if [[ $tags ]]; then
        see_to_version
        select_detached
        return
    fi
    base=$(revision "refs/heads/$ref")
    if [[ $head ]] && ! on_branch; then
        there=$(git symbolic-ref --quiet --short HEAD) || there="no branch"
        [[ $head == "$deployed" ]] || refuse "other branch: $path is on $there and not on $ref; \
run: $git_here checkout $ref"
        ! git worktree list --porcelain | grep -Fx "branch refs/heads/$ref" >/dev/null ||
            refuse "other branch: $ref is checked out in another worktree of $path; see $git_here worktree list"
        # Would the branch's name do? git asks that only after it has written the tree.
        printf 'start\nupdate refs/heads/%s %s\nprepare\nabort\n' "$ref" "$tip" | git update-ref --stdin >/dev/null ||
            refuse "other branch: $path is on $there and cannot have a branch $ref; see the log"
    fi
    [[ -z $base ]] || is_ancestor "$base" "$tip" || see_to_divergence "$base"
}

# Where tags are followed there is no branch. One that the checkout is on was followed before, or is somebody's.
select_detached() {
    local there
    [[ $head && $head != "$deployed" && $head != "$tip" && $head != "$(revision $refs/tried)" ]] || return 0
    if there=$(git symbolic-ref --quiet --short HEAD); then
        refuse "other branch: $path is on $there and not on a tag; run: $git_here checkout --detach $deployed"
    fi
    # shellcheck disable=SC2086  # empty or one revision
    [[ ! $(git rev-list -n 1 "$head" --not "$tip" $deployed --tags --remotes) ]] || see_to_divergence "$head"
}

### activate

end_activation() {
    sync -f . || say "activate: sync failed for $path" # a power cut must not find the marker gone and files empty
    git update-ref $refs/tried $refs/activating && drop_marks ||
        fail "$TRY_AGAIN" "cannot delete $refs/activating in $path; see the log"
}

drop_marks() { printf 'delete %s\n' $refs/activating $refs/from | git update-ref --stdin; }

# What select has found in the way, and may be taken out. Not before: a sync that is refused leaves all as it is.
save_what_is_in_the_way() {
    if [[ $commits_to_save ]]; then
        keep_rescue "$commits_to_save" "the local commits of $ref up to ${commits_to_save:0:12}" ||
            fail "$TRY_AGAIN" "activate: cannot save the local commits in $path; see the log"
    fi
    if [[ $to_save ]]; then
        { ((${#in_the_way[@]} == 0)) || printf '%s\0' "${in_the_way[@]}"; } |
            put_away "Local changes, found when $tip was activated" ||
            fail "$TRY_AGAIN" "activate: cannot save the local changes in $path; see the log"
    fi
}

# $1 is the revision.
activate_in_place() {
    local target=$1 how=(--no-track -B "$ref") log=$git_dir/gitopsd-messages names new_branch=no since=$EPOCHSECONDS
    head=$(revision HEAD)
    if [[ $tags ]]; then how=(--detach); else revision "refs/heads/$ref" >/dev/null || new_branch=yes; fi
    say "activate: ${head:-nothing} -> $target"
    printf 'update %s\n' "$refs/activating $target" ${head:+"$refs/from $head"} |
        git update-ref --stdin ||
        fail "$TRY_AGAIN" "cannot write $refs/activating in $path; see the log"
    git checkout --quiet --no-overwrite-ignore "${how[@]}" "$target" -- 2>"$log" || {
        messages=$(mask <"$log")
        say "$messages" >&2
        stands_at "$target" || {
            mapfile -t names < <(sed -n 's/^\t//p' <<<"$messages")
            # Both refusals come before git touches anything.
            ((${#names[@]} == 0)) && [[ $messages != *index.lock* ]] || drop_marks
            ((${#names[@]} == 0)) || refuse "in the way: ${target:0:12} would overwrite ${#names[@]} files in $path that are \
not in git: $(first_five "${names[@]}"); move them away"
            if [[ $head && $messages != *index.lock* ]] && undo_activation "$target" "$since"; then drop_marks; fi
            fail "$TRY_AGAIN" "activate: $(useful_line) ($path)$([[ -s $log ]] || printf '; is the disk full?')"
        }
        say "activate: the checkout's post-checkout hook failed; the tree stands"
    }
    rm -f -- "$log"
    [[ $new_branch == no ]] || follow_branch
    end_activation
}

# A checkout that failed in its middle (the disk is full, or what was left out by a filter cannot be had) came as far as it
# came: put back what $head has. What the revision $1 adds and is not older than $2 is from that checkout.
undo_activation() {
    local added
    mapfile -d '' -t added < <(git diff-tree -r -z --name-only --no-renames --diff-filter=A "$head" "$1")
    if ((${#added[@]})); then
        # shellcheck disable=SC2016  # the inner shell's
        printf './%s\0' "${added[@]}" | xargs -0 sh -c 'exec find "$@" -maxdepth 0 ! -type d -newerct "$0" -delete' \
            "@$(($2 - 1))" 2>/dev/null
        printf './%s\0' "${added[@]}" | xargs -0 dirname -z -- | sort -zu |
            xargs -0 rmdir -p --ignore-fail-on-non-empty -- 2>/dev/null
    fi
    git diff-index --cached --quiet "$head" -- || git read-tree "$head" || return
    git diff-tree -r -z --name-only --no-renames --diff-filter=DMT "$head" "$1" | git checkout-index --force -z --stdin
    [[ ! $(git status --porcelain --untracked-files=no --ignore-submodules=all 2>&1) ]] || return
    say "activate: put back what $head has"
}

# Files that are neither in git nor ignored. What nested repositories hold is theirs.
clean_untracked() {
    git ls-files --others --exclude-standard -z | sed -z '/\/$/d' |
        take_out "Untracked files, found when $tip was activated" ||
        fail "$TRY_AGAIN" "activate: cannot save the untracked files in $path; see the log"
}

### the strategy release: a bare mirror, a worktree of it for each release, and a symlink to the one that is live

live_tree() {
    local target
    [[ -L $path ]] && target=$(readlink -- "$path") && target=${target%/} && [[ ${target%/*} == ".${path##*/}.releases" && -d $path ]] &&
        printf '%s' "$releases/${target##*/}"
}

# Where git keeps what is its own of a release; our marks are there, too: gitopsd-staged (its revision, once it is whole
# and has passed the gate), gitopsd-begun (made when a deploy in it began), gitopsd-made (written when the first one ended,
# so that it tells what came since) and gitopsd-deployed (made when one was over and well).
# A copy that somebody made of a release is none.
marks_of() {
    local marks="" back=""
    { read -r marks <"$1/.git" && read -r back <"${marks#gitdir: }/gitdir"; } 2>/dev/null
    marks=${marks#gitdir: }
    [[ $marks == "$git_dir"/worktrees/?* && -d $marks && (! -e $back || $back -ef $1/.git) ]] && printf '%s' "$marks"
}

revision_of() {
    local marks
    marks=$(marks_of "$1") && [[ -f $marks/gitopsd-staged ]] && printf '%s' "$(<"$marks/gitopsd-staged")"
}

# Somebody may also have committed in it, or have moved its HEAD.
is_unchanged() {
    [[ $(git -C "$1" rev-parse HEAD 2>/dev/null) == "$(revision_of "$1")" ]] &&
        [[ ! $(git -C "$1" status --porcelain --untracked-files=no --ignore-submodules=untracked 2>&1) ]]
}

# The newest release of the revision $1 that is as it was staged.
find_release() {
    local each found=""
    for each in "$releases"/*/; do
        each=${each%/}
        [[ $(revision_of "$each") != "$1" ]] || ! is_unchanged "$each" || found=$each
    done
    [[ $found ]] && printf '%s' "$found"
}

prepare_mirror() {
    local mirror=$state_dir/mirrors/$repo parent=${path%/*} here
    [[ ! -e $path || -L $path ]] || is_empty "$path" ||
        refuse "$path is in the way: with the strategy release it is a symlink; move it away"
    [[ ! -L $path || $(readlink -- "$path") == ".${path##*/}.releases/"* ]] ||
        refuse "$path is in the way: it leads to $(readlink -- "$path"), which is no release of $repo; move it away"
    { [[ -d $mirror ]] || mkdir -p -- "$mirror"; } && cd -P -- "$mirror" ||
        fail "$TRY_AGAIN" "cannot make $mirror as $(id -un); see that its unit may write there (gitopsd check)"
    [[ -d $releases ]] || mkdir -p -- "$releases" || fail "$TRY_AGAIN" "cannot make $releases as $(id -un); run: install -d -o $(id -un) \
${parent:-/}, and see that its unit may write there (gitopsd check)"
    mirror=$PWD git_dir=$PWD common_dir=$PWD
    printf -v git_here 'git --git-dir=%q' "$mirror"
    if [[ -f gitopsd-start || ! -e HEAD ]]; then start_mirror; fi
    here=$(git rev-parse --absolute-git-dir 2>/dev/null) && [[ $here -ef $mirror ]] ||
        refuse "$mirror is no repository that git can use; move it away, and a new one is made"
    remove_empty_refs
    remove_stale_locks # first of all, as half a pack may be what has filled the disk
    git config remote.origin.url "$url" && keep_partial || fail "$TRY_AGAIN" "cannot write $mirror/config; see the log"
    remove_scraps
    remove_half_releases
    remove_surplus
    deployed=$(revision $refs/deployed)
    if here=$(live_tree); then at_start=$(revision_of "$here"); fi
    old=${deployed:-$at_start}
}

start_mirror() {
    local format=sha1
    ask_remote
    ((${#tip_there} == 40)) || format=sha256
    say "prepare: starting a mirror in $PWD"
    touch -- gitopsd-start && git init --quiet --bare --template= --object-format=$format . && rm -- gitopsd-start ||
        fail "$TRY_AGAIN" "cannot start a mirror in $PWD; see the log"
}

# What a sync has left that was cut off while it staged or removed one, and what is left of those that somebody removed
# by hand. In one without a mark nothing has ever been live; what belongs to another mirror is somebody's.
remove_half_releases() {
    local each marks
    remove_files "${path%/*}/.${path##*/}.next"
    remove_trees "$releases"/.trash.*
    for marks in "$git_dir"/worktrees/[0-9]*Z-*/; do
        marks=${marks%/} each=""
        { read -r each <"$marks/gitdir"; } 2>/dev/null
        each=${each%/.git} # empty where git came no further than to make the directory
        [[ -d $marks && (! $each || $each == "$releases"/*) ]] || continue
        if [[ ! -f $marks/gitopsd-staged ]]; then
            discard_release "$each" "$marks"
        elif [[ ! -e $each/.git ]]; then
            rm -rf -- "$marks"
        fi
    done
    for each in "$releases"/*/; do
        [[ ! -d $each ]] || ! is_empty "${each%/}" || rmdir -- "$each"
    done
}

# Syncs that are killed one after the other, as by a time limit, never come to prune.
remove_surplus() {
    local all=("$git_dir"/worktrees/[0-9]*Z-*/)
    ((${#all[@]} <= keep + 1)) || remove_old_releases
}

# Some package managers leave directories that nobody may write in.
remove_trees() {
    [[ -e $1 ]] || return 0 # a pattern that is for none
    find "$@" -type d ! -perm -u=rwx -exec chmod u+rwx -- {} \; 2>/dev/null
    rm -rf -- "$@"
}

# Under another name first: a tree that is half removed could not be told from somebody's.
# What git has of it ($2) goes last, so that a tree in the trash is never somebody's.
discard_release() {
    local trash=$releases/.trash.${2##*/}
    say "prune: removing ${1:-$2}"
    { [[ ! -d $1 ]] || { mv -T -- "$1" "$trash" && remove_trees "$trash"; }; } && rm -rf -- "$2" ||
        say "prune: cannot remove all of ${1:-$2}; see the log"
}

select_release() {
    local live changes lines
    [[ ! $tags ]] || see_to_version
    [[ ! $deployed || $tags || $pinned || $rewind == allow ]] || follows_another_ref || is_ancestor "$deployed" "$tip" ||
        refuse "history rewound: ${deployed:0:12} is deployed, and the remote now has ${tip:0:12}, which does not contain \
it; if that is wanted, set rewind: allow, or run: $git_here update-ref -d $refs/deployed"
    [[ $drift != off && $at_start == "$tip" ]] || return 0
    live=$(live_tree) && cd -- "$live" || return 0
    look_for_changes
    [[ $(revision HEAD) == "$tip" ]] || changes+="${changes:+$'\n'}MM HEAD"
    cd -- "$git_dir" || fail "$TRY_AGAIN" "cannot enter $git_dir"
    [[ $changes ]] || return 0
    say "$changes"
    mapfile -t lines <<<"$changes"
    printf -v git_here 'git -C %q' "$path"
    [[ $drift == repair ]] || refuse_drift "${lines[@]#???}"
    say "select: what was changed stays in $live, and is saved when that is removed"
    drifted=yes
}

# Whether the configuration has changed since: then nothing was rewound.
follows_another_ref() {
    local before
    { read -r before; } 2>/dev/null <"$git_dir/gitopsd-ref" && [[ $before != "$ref" ]]
}

# Make the tree of a release, or find it; the gate decides whether it may go live.
stage_release() {
    phase stage
    local marks
    if tree=$(find_release "$tip"); then
        say "stage: ${tip:0:12} is there, in $tree"
        return
    fi
    tree=$releases/$(utc_now)-${tip:0:12}
    say "stage: ${tip:0:12} in $tree"
    watch_git -c worktree.useRelativePaths=false worktree add --quiet --detach -- "$tree" "$tip" ||
        fail "$TRY_AGAIN" "stage: $(useful_line) ($tree)"
    if [[ $submodules == yes && -f $tree/.gitmodules ]]; then
        watch_git -C "$tree" submodule update --init --recursive || fail "$TRY_AGAIN" "stage: submodules: $(useful_line)"
    fi
    pass_gate "$tree"
    marks=$(marks_of "$tree")
    # A power cut must not find it live and its files empty.
    note_what_is_made "$tree" && sync -f -- "$tree" && replace_file "$marks/gitopsd-staged" "$tip" &&
        sync -- "$marks/gitopsd-staged" "$marks" ||
        fail "$TRY_AGAIN" "stage: cannot write $marks; is the disk full?"
}

# Point the symlink to the release in $tree, which is of the revision $1.
activate_release() {
    local next
    [[ $(revision_of "$tree") == "$1" ]] || fail "$DEPLOY_FAILED" "activate: the release of ${1:0:12} is gone"
    next=$(live_revision)
    say "activate: ${next:-nothing} -> $1"
    next=${path%/*}/.${path##*/}.next
    if [[ -d $path && ! -L $path ]]; then rmdir -- "$path"; fi
    ln -sfn -- ".${path##*/}.releases/${tree##*/}" "$next" && mv -Tf -- "$next" "$path" && sync -- "${path%/*}/." ||
        fail "$TRY_AGAIN" "activate: cannot write $path as $(id -un); see that its unit may write in ${path%/*}"
}

# Write down that what is in the release $1 by now is not somebody's: the time, and its directories by their inodes.
note_what_is_made() {
    local marks
    marks=$(marks_of "$1") && find "$1" -type d -printf '%i\n' >"$marks/gitopsd-made"
}

# Files and links below the directory $2 that came or were changed since the mark $1 was written, each ended by NUL. What
# is moved here with its directory keeps its own times. The time of the status changes also when somebody makes another
# hard link to a file, as some package managers do with all that they install.
came_since() {
    local entry
    local -A there=()
    while read -r entry; do there[$entry]=yes; done <"$1"
    find "$2" -type d -printf '%i %p\0' | while IFS= read -r -d '' entry; do
        [[ ${there[${entry%% *}]-} ]] || find "${entry#* }" -maxdepth 1 -type f,l -print0
    done
    find "$2" -type f,l \( -newer "$1" -o -links 1 -cnewer "$1" \) ! -path '*/.git/index' ! -path '*/.git/objects/*' -print0
}

# Whether somebody has worked in one of the submodules and other repositories below us since the mark $2; $1 is where git
# keeps what is its own of the release.
has_busy_repositories() {
    local each
    while IFS= read -r -d '' each; do
        (($(came_since "$2" "$each" | wc -c) == 0)) || return 0
    done < <(find . -mindepth 2 -name .git -prune -printf '%h\0')
    # shellcheck disable=SC2016  # told by foreach
    [[ -d $1/modules && $(git submodule foreach --quiet --recursive \
        'git log --oneline -n 1 --all HEAD --not --remotes --tags "$sha1"' 2>&1) ]]
}

# Save what came into a release after its deploy, then remove it.
prune_release() {
    local each=$1 marks at
    marks=$(marks_of "$each") && at=$(revision_of "$each") && cd -- "$each" || return
    if has_busy_repositories "$marks" "$marks/gitopsd-made"; then
        say "prune: $each stays, as somebody has worked in a submodule or another repository in it"
        return
    fi
    if [[ $(revision HEAD) != "$at" ]] && ! is_ancestor HEAD "$at"; then
        keep_rescue "$(revision HEAD)" "the commits that were made in $each" || return
    fi
    came_since "$marks/gitopsd-made" . | sed -z 's,^\./,,' | sort -zu |
        comm -z -12 - <(git ls-files --others -z | sort -z) |
        save_work "Found in the release ${each##*/} when it was removed" || return
    cd -- "$git_dir" && discard_release "$each" "$marks"
}

# The one whose deploy was over last comes first: one that was gone back to is a new one again.
releases_by_deploy() {
    local each marks at
    for each in "$releases"/*/; do
        marks=$(marks_of "${each%/}") || continue
        at=$(stat -c %.9Y -- "$marks/gitopsd-deployed" 2>/dev/null)
        printf '%s %s\n' "${at:-0}" "${each%/}"
    done | sort -rn | cut -d ' ' -f 2-
}

# The newest releases stay, and whichever is live, was deployed last, or is to be gone back to. One whose deploy did not
# come to a good end is of no use.
prune() {
    phase prune
    remove_old_releases
}

remove_old_releases() {
    local all=() each live needed at count=0
    live=$(live_tree)
    needed=" $(revision $refs/deployed) $(revision $refs/rollback) "
    mapfile -t all < <(releases_by_deploy)
    for each in "${all[@]}"; do
        at=$(revision_of "$each") || continue
        if [[ $each == "$live" || $needed == *" $at "* ]]; then
            ((++count))
            needed=${needed/" $at "/  } # one of each is enough
        elif [[ ! -e $(marks_of "$each")/gitopsd-deployed ]] || ((++count > keep)); then
            (prune_release "$each") || say "prune: cannot save what is in $each; it stays"
        fi
    done
}

### verify: who has signed it

signature_settings() {
    # Of the other kinds none counts, whatever keys the user of the sync may have.
    printf '%s\0' -c gpg.x509.program=/bin/false
    if [[ $verify == ssh ]]; then
        printf '%s\0' -c gpg.program=/bin/false -c gpg.openpgp.program=/bin/false \
            -c "gpg.ssh.allowedSignersFile=$allowed_signers" -c gpg.ssh.program=ssh-keygen \
            -c gpg.minTrustLevel=fully
    else
        # The keyring is the whole of the trust, so that no key in it has any of gpg's own.
        printf '%s\0' -c gpg.ssh.program=/bin/false -c gpg.program=gpg -c gpg.openpgp.program=gpg \
            -c gpg.minTrustLevel=undefined
    fi
}

# Who has signed the commit or tag $2 ($1 says which of both it is): principal or fingerprints, in $signer.
find_signer() {
    local settings=() said
    mapfile -d '' -t settings < <(signature_settings)
    said=$(git "${settings[@]}" "verify-$1" --raw "$2" 2>&1) || {
        messages=$(git "${settings[@]}" "verify-$1" "$2" 2>&1) # the same in words
        say "$messages" >&2
        return 1
    }
    signer=$(sed -n 's/^\[GNUPG:\] VALIDSIG //p;s/^Good "git" signature for \(.*\) with .*/\1/p' <<<"$said")
}

# Whether the signer is one of merge_by. A principal in the file of signers may be a pattern, or several with commas.
signs_merges_alone() {
    local each name names=() alone=()
    read -ra alone <<<"$merge_by"
    read -ra names <<<"${signer//,/ }"
    for each in "${alone[@]}"; do
        for name in "${names[@]}"; do
            # shellcheck disable=SC2053  # patterns
            [[ ${each^^} != ${name^^} && ${name^^} != ${each^^} ]] || return 0
        done
    done
    return 1
}

# A commit counts that one of the signers has signed; or a merge that one of merge_by has signed, of such commits. The one
# that is at fault is left in $unsigned. Each is looked at once, as there may be very many ways to it.
is_signed() {
    local signer todo=("$1") seen=" " parents parent
    while ((${#todo[@]})); do
        unsigned=${todo[0]} todo=("${todo[@]:1}")
        find_signer commit "$unsigned" || return
        signs_merges_alone || continue
        # As it was signed, and not as far as it is here (depth).
        mapfile -t parents < <(git cat-file commit "$unsigned" | sed -n '/^$/q;s/^parent //p')
        ((${#parents[@]} > 1)) || { messages="it is no merge, and $signer may sign merges alone" && return 1; }
        for parent in "${parents[@]}"; do
            [[ $seen != *" $parent "* ]] && ! is_ancestor "$parent" "$deployed" || continue
            seen+="$parent " todo+=("$parent")
        done
    done
}

# What has passed once needs no more for a rollback to it: the keys of then may be gone.
verify_tip() {
    local unsigned="" passed=$git_dir/gitopsd-verified known
    [[ $verify != none ]] || return 0
    [[ ! $pinned ]] || ! grep -qxF "$tip" "$passed" 2>/dev/null || return 0
    phase verify
    if [[ $verify == gpg ]]; then
        type -P gpg >/dev/null || fail "$MISCONFIGURED" "gpg is not installed (PATH=$PATH), and verify is gpg"
        local -x GNUPGHOME=$git_dir/gitopsd-keys # the deploy command gets the user's own
        import_keys
    elif ! type -P ssh-keygen >/dev/null; then
        fail "$MISCONFIGURED" "ssh-keygen is not installed (PATH=$PATH), and verify is ssh"
    fi
    if [[ $tags && ! $pinned ]]; then
        verify_tag
    elif ! is_signed "$tip"; then
        [[ $unsigned == "$tip" ]] && unsigned="" || unsigned=", by way of ${unsigned:0:12}"
        refuse "not signed as it has to be: commit ${tip:0:12}$unsigned: $(useful_signature); verify is $verify, by \
${allowed_signers:-$keyring}"
    fi
    say "verify: ${tip:0:12} is signed"
    mapfile -t known < <(tail -n 999 -- "$passed" 2>/dev/null)
    replace_file "$passed" "${known[@]}" "$tip" ||
        fail "$TRY_AGAIN" "verify: cannot write $passed; is the disk full?"
    drop_keys
}

# A home for gpg that holds no more than the keyring. What a sync that was killed has left of one goes first.
import_keys() {
    drop_keys
    trap drop_keys EXIT
    mkdir -m 700 -- "$GNUPGHOME" || fail "$TRY_AGAIN" "verify: cannot make $GNUPGHOME; is the disk full?"
    # It looks for an agent after the import of each, and fails where there is none.
    messages=$(gpg --batch --quiet --no-autostart --import -- "$keyring" 2>&1)
    [[ $(gpg --batch --quiet --no-autostart --list-keys 2>/dev/null) ]] ||
        { say "$messages" >&2 && fail "$MISCONFIGURED" "verify: $keyring holds no keys that gpg can read"; }
}

drop_keys() { rm -rf -- "$git_dir/gitopsd-keys" && trap - EXIT; }

# The name is part of what was signed: else an old tag could be shown under a new one.
verify_tag() {
    local named signer
    [[ $(git cat-file -t $refs/tip) == tag ]] ||
        refuse "not signed as it has to be: the tag $tag is a lightweight one, which has no signature; make it with: git tag -s"
    named=$(git cat-file tag $refs/tip | sed -n '/^$/q;s/^tag //p')
    [[ $named == "$tag" ]] || refuse "not signed as it has to be: the tag $tag was signed as $named"
    find_signer tag "$(git rev-parse $refs/tip)" ||
        refuse "not signed as it has to be: tag $tag: $(useful_signature); verify is $verify, by ${allowed_signers:-$keyring}"
    ! signs_merges_alone || refuse "not signed as it has to be: tag $tag: $signer may sign merges alone"
}

useful_signature() {
    case $messages in
        "" | *"no signature found"* | *"allowedSignersFile needs"* | *"could not verify the"* | *"gpg failed"*)
            printf 'it has no %s signature' "$verify" ;;
        *"No principal matched"*) printf 'its key is none of the allowed signers' ;;
        *"No public key"*) printf 'its key is not in the keyring' ;;
        *"BAD signature"* | *"incorrect signature"*) printf 'it was changed after it had been signed' ;;
        *"key has expired"*) printf 'its key has expired' ;;
        *"key has been revoked"*) printf 'its key was revoked' ;;
        *) printf '%s' "$(useful_line)" ;;
    esac
}

### stage, for the strategy in-place: a tree for the gate alone

drop_gate_tree() {
    [[ ! -e $git_dir/gitopsd-gate ]] || { git worktree remove --force --force "$git_dir/gitopsd-gate" 2>/dev/null ||
        rm -rf -- "$git_dir/gitopsd-gate"; } || fail "$TRY_AGAIN" "cannot remove $git_dir/gitopsd-gate"
    [[ ! -d $common_dir/worktrees/gitopsd-gate ]] || rm -rf -- "$common_dir/worktrees/gitopsd-gate"
}

stage_for_gate() {
    ((${#gate_command[@]})) || return 0
    phase stage
    drop_gate_tree
    watch_git worktree add --quiet --detach -- "$git_dir/gitopsd-gate" "$tip" || fail "$TRY_AGAIN" "stage: $(useful_line)"
    pass_gate "$git_dir/gitopsd-gate"
    drop_gate_tree
}

pass_gate() {
    ((${#gate_command[@]})) || return 0
    say "stage: gate: ${gate_command[0]}"
    (cd -- "$1" && run_command gate "$1" "${gate_command[@]}") || exit
}

### deploy: commands, compose, units, health

# What is deployed by its name: the branch, or the tag; of a revision that is gone back to the highest version that it has.
ref_of_tip() {
    local name
    if [[ ! $tags ]]; then
        printf '%s' "$ref"
    elif [[ $tag && $tip == "$(revision $refs/tip)" ]]; then
        printf '%s' "$tag"
    else
        git -c versionsort.suffix=- tag --points-at "$tip" --sort=-version:refname 2>/dev/null | while IFS= read -r name; do
            if is_followed "$name"; then printf '%s' "$name" && break; fi
        done
    fi
}

# In a subshell of its own, so that nothing of the engine's reaches the command: not its variables, not the lock.
exec_command() (
    local at=$1 name GITOPSD_REF
    shift
    exec 2>&3 3>&-
    GITOPSD_REF=$(ref_of_tip)
    export GITOPSD_REPO=$repo GITOPSD_REF GITOPSD_PATH=$at GITOPSD_OLD_REVISION=$old GITOPSD_NEW_REVISION=$tip
    for name in OUTPUT LOCK_FD URL HINT REVISION GATE DEPLOY HEALTH HEALTH_INTERVAL HEALTH_TRIES HEALTH_TIMEOUT COMPOSE \
        UNITS SETTLE ROLLBACK TIMEOUT KEEP SUBMODULES DEPTH FILTER REWIND LOCAL_CHANGES VERIFY ALLOWED_SIGNERS KEYRING \
        MERGE_BY CLEAN DRIFT; do
        unset "GITOPSD_$name"
    done
    if [[ $their_locale ]]; then LC_ALL=$their_locale; else unset LC_ALL; fi
    # shellcheck disable=SC2093  # the braces' file descriptor is closed only with exec in the same command
    if [[ $lock_fd ]]; then exec "$@" </dev/null {lock_fd}>&-; fi
    exec "$@" </dev/null
)

# Run a command of the repo in the directory where we are, which is told as $2; $1 says which of them it is.
run_command() {
    local kind=$1 at=$2 name=$3 status limit=() began=$EPOCHREALTIME
    shift 2
    local executable="run: git update-index --chmod=+x $name, commit and push" there="commit and push it"
    [[ $strategy != none ]] || executable="run in $path: chmod +x $name" there="put it there"
    [[ ! -f $name || $name != */* || -x $name ]] || fail "$DEPLOY_FAILED" "$kind: $name is not executable; $executable"
    [[ $name != */* || -f $name ]] || fail "$DEPLOY_FAILED" "$kind: $name is not there (in $path); $there"
    type -P -- "$name" >/dev/null || fail "$DEPLOY_FAILED" "$kind: $name was not found (PATH=$PATH)"
    # Who can go back needs time for that; else whoever started us sets the limit.
    [[ $rollback != yes || ! $time_limit ]] || limit=(timeout --kill-after=5 "$time_limit")
    [[ $kind != health ]] || limit=(timeout --kill-after=2 "$health_timeout")
    { exec_command "$at" "${limit[@]}" "$@"; } 3>&2 2>/dev/null # bash's own "Killed" is not for anybody
    status=$?
    ((status == 0)) && return
    [[ ! ${limit[*]} ]] || ((status != 124 && status != 137)) || ! past "$began" "${limit[-1]}" ||
        fail "$DEPLOY_FAILED" "$kind: $name took longer than ${limit[-1]} s"
    ((status <= 128 || status > 192)) ||
        fail "$DEPLOY_FAILED" "$kind: $name was ended by SIG$(kill -l $((status - 128)) 2>/dev/null)"
    fail "$DEPLOY_FAILED" "$kind: $name exited with $status"
}

has_deploy() { ((${#deploy_command[@]} + ${#units[@]} + ${#health_command[@]})) || [[ $compose ]]; }

# In a release what the first run of the deploy command makes is its own, whether it fails or not. What comes later is
# somebody's, whatever is deployed there again; and so is all that came since the beginning of one that was cut off.
run_deploy_command() {
    local live marks="" status
    if is_release && live=$(live_tree) && marks=$(marks_of "$live") && [[ ! -e $marks/gitopsd-begun ]]; then
        touch -- "$marks/gitopsd-begun" || fail "$TRY_AGAIN" "deploy: cannot write $marks; is the disk full?"
    else
        marks=""
    fi
    say "deploy: ${deploy_command[0]}"
    (run_command deploy "$path" "${deploy_command[@]}")
    status=$?
    [[ ! $marks ]] || note_what_is_made "$live" ||
        say "deploy: cannot write $marks/gitopsd-made; all that it made will be saved when it is removed"
    ((status == 0)) || exit $status
}

deploy() {
    cd -- "$path" || fail "$TRY_AGAIN" "cannot enter $path"
    if ((${#deploy_command[@]} + ${#units[@]})) || [[ $compose ]]; then phase deploy; fi
    if ((${#deploy_command[@]})); then run_deploy_command; fi
    if [[ $compose ]]; then bring_up; fi
    if ((${#units[@]})); then restart_units; fi
    if ((${#units[@]} + ${#health_command[@]})); then phase health; fi
    if ((${#units[@]})); then watch_units; fi
    if ((${#health_command[@]})); then check_health; fi
}

# By the repo's name and not that of the directory, which is another one for each release.
bring_up() {
    type -P docker >/dev/null || fail "$DEPLOY_FAILED" "compose: docker is not installed (PATH=$PATH)"
    [[ -f $compose ]] || fail "$DEPLOY_FAILED" "compose: $compose is not there (in $path); commit and push it"
    say "deploy: compose: $compose"
    run_command compose "$path" docker compose --project-name "${repo//./-}" --file "$compose" up --detach --wait
}

unit_values() { systemctl show --value --property="$1" -- "${units[@]}" | grep -v '^$'; }

restart_units() {
    type -P systemctl >/dev/null || fail "$DEPLOY_FAILED" "units: systemctl is not installed (PATH=$PATH)"
    say "deploy: restarting ${units[*]}"
    if unit_values NeedDaemonReload | grep -qx yes; then ask_systemd daemon-reload; fi
    ask_systemd restart -- "${units[@]}"
}

ask_systemd() {
    local limit=() status said hint=""
    [[ $rollback != yes || ! $time_limit ]] || limit=(timeout --kill-after=5 "$time_limit")
    messages=$("${limit[@]}" systemctl --no-ask-password "$@" 2>&1)
    status=$?
    ((status == 0)) && return
    say "$messages" >&2
    [[ ! ${limit[*]} ]] || ((status != 124)) ||
        fail "$DEPLOY_FAILED" "units: systemctl $1 took longer than $time_limit s"
    said=$(grep -m 1 -E '^(Failed to|Job for) ' <<<"$messages") || said=$(useful_line)
    [[ $messages != *"ccess denied"* && $messages != *"uthentication"* ]] ||
        hint="; docs/engine.md shows what polkit has to allow"
    fail "$DEPLOY_FAILED" "units: systemctl $1: $said$hint"
}

# A unit that crashes and is restarted looks active in between, but is another invocation then.
watch_units() {
    local states invocations first="" since=0 end=$((SECONDS + 1 + ${settle%.*} * 6))
    say "health: ${units[*]} have to stay active for $settle s"
    while true; do
        mapfile -t states < <(unit_values ActiveState)
        invocations=$(unit_values InvocationID)
        [[ " ${states[*]} " != *" failed "* ]] || break
        if ((${#states[@]} == ${#units[@]})) && [[ ! ${states[*]//active/} =~ [a-z] ]]; then
            if [[ $invocations != "$first" ]]; then
                [[ ! $first ]] || break
                first=$invocations since=$EPOCHREALTIME
            fi
            ! past "$since" "$settle" || return 0
        elif [[ $first ]] || ((SECONDS > end)); then
            break
        fi
        sleep 0.2
    done
    fail "$DEPLOY_FAILED" "health: $(unit_verdicts)"
}

# Whether $2 seconds have gone by since $1.
past() { (($(micros "$EPOCHREALTIME") - $(micros "$1") >= $(micros "$2"))); }

micros() {
    local text
    printf -v text '%.6f' "$1"
    printf '%s' "$((10#${text/./}))"
}

unit_verdicts() {
    local unit state text=""
    for unit in "${units[@]}"; do
        state=$(systemctl show --value --property=ActiveState -- "$unit")
        [[ $state == active ]] || text+="${text:+, }$unit is $state"
    done
    printf '%s; see: journalctl -u %s' "${text:-${units[*]} did not stay active for $settle s}" "${units[*]}"
}

check_health() {
    local count
    for ((count = 1; count <= health_tries; count++)); do
        ((count == 1)) || sleep "$health_interval"
        say "health: ${health_command[0]} (try $count of $health_tries)"
        ! try run_command health "$path" "${health_command[@]}" || return 0
    done
    fail "$DEPLOY_FAILED" "$problem, in $health_tries tries"
}

### rollback

activate() {
    if is_release; then activate_release "$1"; else activate_in_place "$1"; fi
}

# Go back to the revision $1. What a deploy that failed has changed in the tree is saved.
go_back() {
    local target=$1 bad=$tip
    phase rollback
    say "rollback: to $target"
    tip=$target
    if is_release; then
        cd -- "$git_dir" || fail "$TRY_AGAIN" "cannot enter $git_dir"
        tree=$(find_release "$target") || { gate_command=() && stage_release; }
    else
        cd -- "$path" || fail "$TRY_AGAIN" "cannot enter $path"
        see_to_submodules "$target"
        save_commits "$bad" "$target" && put_away "Found when $target was gone back to" </dev/null && make_way "$target" ||
            fail "$TRY_AGAIN" "cannot save the local changes in $path; see the log"
    fi
    stands_there "$target" || activate "$target"
    old=$bad
    deploy
}

# Save the commits that somebody made here and that none of the revisions given, nor anything from the remote, contains.
save_commits() {
    local each known=()
    for each in $refs/tip $refs/tried "$deployed" "$@"; do
        ! each=$(revision "$each") || known+=("$each")
    done
    for each in HEAD "refs/heads/$ref"; do
        each=$(revision "$each") && [[ $(git rev-list -n 1 "$each" --not --remotes --tags "${known[@]}") ]] || continue
        keep_rescue "$each" "the local commits up to ${each:0:12}" || return
    done
}

# What the revision that failed has made where $1 has files of its own is saved, and taken out.
make_way() {
    local name
    comm -z -23 <(git ls-tree -r -z --name-only "$1" | sort -z) <(git ls-files -z | sort -z) |
        while IFS= read -r -d '' name; do standing "$name"; done | sort -zu | take_out "Found in the way of $1"
}

stands_there() {
    if is_release; then [[ $(revision_of "$(live_tree)") == "$1" ]]; else stands_at "$1"; fi
}

remember_bad() { replace_file "$git_dir/gitopsd-bad" "$tip" "$1"; }

# The bad revision and why it is, in $bad and $because.
recall_bad() { { read -r bad && read -r because; } 2>/dev/null <"$git_dir/gitopsd-bad"; }

# The deploy of $tip has failed with the status $1, as $problem says.
deploy_failed() {
    local because=${problem:-the deploy failed; see the log}
    (($1 == DEPLOY_FAILED)) || [[ ! " $TRY_AGAIN $REFUSED $MISCONFIGURED " == *" $1 "* ]] || fail "$1" "$because"
    [[ $rollback == yes ]] || give_up "$because"
    [[ $deployed ]] || give_up "$because; there is no revision before it to go back to"
    [[ $deployed != "$tip" ]] || give_up "$because; it was deployed before, so there is nothing to go back to"
    # In this order: where the way back is not yet known, what is known to be bad would be refused, and stay live.
    git update-ref $refs/rollback "$deployed" && remember_bad "$because" ||
        give_up "$because; and it cannot be rolled back, as $git_dir cannot be written"
    if end_rollback; then
        [[ $went_back == yes ]] || tell rolled_back "$deployed"
        give_up "$because; rolled back to ${deployed:0:12}"
    fi
    give_up "$because; rolling back to ${deployed:0:12} failed too: $problem"
}

# Go to the end of the way back that was begun.
end_rollback() {
    try go_back "$(revision $refs/rollback)" && git update-ref -d $refs/rollback && mark_deployed
}

give_up() {
    if is_release; then prune; fi
    fail "$DEPLOY_FAILED" "$1"
}

# A rollback that was cut off, or whose deploy failed, comes before all else, also while the remote is gone.
finish_rollback() {
    local bad="" because=""
    [[ $git_dir && $(revision $refs/rollback) && ! $pinned && $force != yes ]] || return 0
    # Where somebody has gone on to work, he is not disturbed: the sync is refused.
    if ! is_release && { ! on_ref || unfinished >/dev/null; }; then return; fi
    recall_bad && tip=$bad
    if end_rollback; then
        went_back=yes
        tell rolled_back "$deployed"
    else
        went_back="$problem"
    fi
    at_start=$(live_revision)
}

live_revision() { if is_release; then revision_of "$(live_tree)"; else revision HEAD; fi; }

# A newer revision is another try, and so is a person's wish.
refuse_known_bad() {
    local bad="" because=""
    [[ $force != yes && ! $pinned ]] && recall_bad && [[ $bad == "$tip" ]] || return 0
    case $went_back in
        "") refuse "bad revision: ${tip:0:12} was rolled back before ($because); push a newer one, or try it again with: \
gitopsd sync $repo --force" ;;
        yes) give_up "$because; rolled back to ${deployed:0:12}" ;;
        *) give_up "$because; rolling back to ${deployed:0:12} failed too: $went_back" ;;
    esac
}

mark_deployed() {
    local marks
    is_release && marks=$(marks_of "$(live_tree)") || return 0
    touch -- "$marks/gitopsd-deployed"
}

### main

# With the key that systemd has loaded for this repo alone, if there is one. A unit without one has a stand-in there.
ssh_command() {
    local key=${CREDENTIALS_DIRECTORY-}/ssh-key
    printf 'ssh -o BatchMode=yes'
    [[ ! -r $key || $(head -c 10 -- "$key") != -----BEGIN ]] || printf ' -o IdentitiesOnly=yes -i %q' "$key"
}

# Without git: what asked for it is all that has changed.
run_without_git() {
    phase prepare
    [[ -d $path ]] || refuse "$path is not a directory; make it, or correct the path of $repo"
    cd -- "$path" 2>/dev/null || refuse "cannot enter $path as $(id -un); check its owner and mode"
    tell changed yes
    deploy
}

choose_ssh() {
    [[ ${GIT_SSH_COMMAND-}${GIT_SSH-} || $(git config core.sshCommand) ]] || ssh=$(ssh_command)
}

prepare() {
    phase prepare
    if is_release; then
        choose_ssh
        prepare_mirror
    else
        prepare_checkout
        choose_ssh
    fi
}

select_tip() {
    phase select
    if is_release; then select_release; else select_in_place; fi
    refuse_known_bad
}

# All that has to be so before anything changes; $1 says whether the tree does.
approve() {
    verify_tip
    if ! is_release; then stage_for_gate; elif [[ $1 == yes ]]; then stage_release; fi
}

sync_repo() {
    local changed=no due=no moves=no
    prepare
    finish_rollback
    fetch
    select_tip
    if [[ $drifted == yes ]] || ! stands_there "$tip"; then moves=yes; fi
    if has_deploy && [[ $at_start != "$tip" || $deployed != "$tip" || $force == yes || $drifted == yes ]]; then due=yes; fi
    if [[ $at_start != "$tip" || $drifted == yes || $due == yes ]]; then changed=yes; fi
    if [[ $moves == yes || $due == yes ]]; then approve $moves; fi
    tell changed $changed
    if [[ $changed == no ]]; then say "select: ${tag:-$ref} is at $tip; nothing to do"; fi
    if [[ $moves == yes ]]; then
        phase activate
        if ! is_release; then save_what_is_in_the_way; fi
        activate "$tip"
    fi
    if ! is_release; then end_checkout $changed; fi
    if [[ $due == yes ]]; then try deploy || deploy_failed $?; fi
    record_deployed
    if [[ $changed == yes ]]; then
        if is_release; then prune; fi
        git -c gc.autoDetach=false gc --auto --quiet || say "gc failed in $git_dir"
    fi
}

end_checkout() {
    [[ $1 == no || $clean == none ]] || clean_untracked
    [[ $tags || $pinned ]] || git update-ref "refs/remotes/origin/$ref" "$tip" ||
        say "activate: refs/remotes/origin/$ref stays where it was"
}

record_deployed() {
    local bad="" because=""
    if [[ $tag && ! $pinned ]]; then
        replace_file "$git_dir/gitopsd-tag" "$tag" "$tip" ||
            fail "$TRY_AGAIN" "deployed $tag, but cannot write $git_dir/gitopsd-tag; is the disk full?"
    fi
    { ! is_release || [[ $pinned ]] || replace_file "$git_dir/gitopsd-ref" "$ref"; } &&
        { [[ $deployed == "$tip" ]] || git update-ref $refs/deployed "$tip"; } ||
        fail "$TRY_AGAIN" "deployed $tip, but cannot write $refs/deployed in $git_dir; see the log"
    mark_deployed
    [[ ! $(revision $refs/rollback) ]] || git update-ref -d $refs/rollback
    if recall_bad && [[ $bad == "$tip" ]]; then rm -f -- "$git_dir/gitopsd-bad"; fi
}

main() {
    [[ $output == /* || -z $output ]] || output=$PWD/$output
    # shellcheck disable=SC2046  # names, one a word
    unset $(command git rev-parse --local-env-vars 2>/dev/null)
    read_configuration "$@"
    cd / || fail "$TRY_AGAIN" "cannot enter /" # no other repository's configuration
    if [[ $strategy == none ]]; then run_without_git; else sync_repo; fi
}

# On one line: bash reads on in this file after main, and an upgrade by hand may have written into it meanwhile.
main "$@"; exit
