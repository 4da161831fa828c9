#!/bin/bash
# Bring one repo's checkout to the tip of its branch, then deploy it. Contract: docs/engine.md
#
# Without `set -e`: it is off inside conditions and substitutions, where most of this happens. Each step says itself
# what its failure means, and `fail` is the only way out of a sync that did not succeed.
set -uo pipefail

readonly DEPLOY_FAILED=1 TRY_AGAIN=75 REFUSED=77 MISCONFIGURED=78

url=${GITOPSD_URL-} ref=${GITOPSD_REF-} path=${GITOPSD_PATH-} strategy=${GITOPSD_STRATEGY:-in-place}
output=${GITOPSD_OUTPUT-} force=${GITOPSD_FORCE-} opt_in=${GITOPSD_OPT_IN-} lock_fd=${GITOPSD_LOCK_FD-}
hint=${GITOPSD_HINT-}
repo="" deploy_command=() git_dir="" common_dir="" refs=refs/gitopsd
at_start="" head="" deployed="" old="" tip="" messages=""
printf -v git_here 'git -C %q' "$path" # for commands that a person may copy; of another user's checkout git refuses to speak
[[ ! ${INVOCATION_ID-} || $EUID == 0 ]] || git_here="sudo -u $(id -un) $git_here"

say() { printf '%s\n' "$*"; }

# In https the user alone can be the token. Elsewhere (ssh) the user is an address, and only its password is hidden,
# also where ssh repeats it without the scheme.
mask() {
    LC_ALL=C sed -u -E -e 's,((https?|ftps?)://)[^[:space:]]*@,\1***@,g' \
        -e 's,(^|[[:space:]"'\''(=]|://)([^][:space:]/:@[]+):[^[:space:]/]*@,\1\2:***@,g' -e 's,\r$,,'
}

emit() { [[ -z $output ]] || { printf '%s=%s\n' "$1" "$2" >>"$output"; } 2>/dev/null; }

tell() { emit "$1" "$2" || fail $TRY_AGAIN "cannot write $output (GITOPSD_OUTPUT); is the disk full?"; }

phase() {
    local LC_ALL=C # the radix of EPOCHREALTIME is the locale's
    tell phase "$1 at=$EPOCHREALTIME"
}

fail() {
    local reason
    reason=$(printf '%s' "$2" | mask)
    reason=${reason//[[:cntrl:]]/ }
    printf 'gitops_sync.sh: %s\n' "$reason" >&2
    emit reason "$reason"
    exit "$1"
}

refuse() { fail $REFUSED "$1"; }

first_five() {
    local names=("${@:1:5}") joined
    printf -v joined '%s, ' "${names[@]}"
    printf '%s' "${joined%, }"
    (($# <= 5)) || printf ' and %d more' $(($# - 5))
}

# What an operator may have switched on in the checkout and what would outlive us or reach beyond it stays off.
git() { command git -c core.fsmonitor=false -c core.quotePath=false -c submodule.recurse=false "$@"; }

revision() { git rev-parse --verify --quiet "$1^{commit}"; }

is_ancestor() { [[ $1 && $2 ]] && git merge-base --is-ancestor "$1" "$2" 2>/dev/null; }

on_branch() { [[ $(git symbolic-ref --quiet HEAD) == "refs/heads/$ref" ]]; }

stands_at_tip() { on_branch && [[ $(revision HEAD) == "$tip" ]]; }

# Run git with its words shown as they come and kept in $messages. Not for what runs hooks: a daemon started by one
# would hold the pipe, and we would wait for its end.
watch_git() {
    messages=$(LC_ALL=C git "$@" 2>&1 | mask | while IFS= read -r line; do
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
            "fatal: Could not read from remote repository."*) continue ;;
            fatal:* | error:* | ERROR:*) printf '%s' "$line" && return ;;
        esac
        last=$line
    done <<<"$messages"
    printf '%s' "${last:-git did not say why}"
}

read_configuration() {
    local LC_ALL=C
    (($# == 1)) || fail $MISCONFIGURED "use: GITOPSD_URL=… GITOPSD_REF=… GITOPSD_PATH=… gitops_sync.sh REPO"
    repo=$1
    [[ $repo =~ ^[a-z0-9][a-z0-9._-]{0,62}$ ]] ||
        fail $MISCONFIGURED "repo '$repo': the name must match ^[a-z0-9][a-z0-9._-]{0,62}\$"
    [[ $url$ref$path != *[[:cntrl:]]* ]] || fail $MISCONFIGURED "$repo: url, ref or path has a control character"
    [[ $path == /* ]] || fail $MISCONFIGURED "$repo: GITOPSD_PATH '$path' is not an absolute path"
    [[ $strategy == in-place || $strategy == none ]] ||
        fail $MISCONFIGURED "$repo: GITOPSD_STRATEGY '$strategy' is unknown; use in-place or none"
    [[ $strategy == none ]] || read_remote
    [[ $lock_fd =~ ^([3-9]|[1-9][0-9]+)?$ ]] ||
        fail $MISCONFIGURED "$repo: GITOPSD_LOCK_FD '$lock_fd' is not the number of an inherited file descriptor"
    eval "deploy_command=(${GITOPSD_DEPLOY-})" 2>/dev/null ||
        fail $MISCONFIGURED "$repo: GITOPSD_DEPLOY is not a list of shell words: ${GITOPSD_DEPLOY-}"
    [[ $strategy != none ]] || ((${#deploy_command[@]})) ||
        fail $MISCONFIGURED "$repo: GITOPSD_DEPLOY is empty, and there is nothing else to do with GITOPSD_STRATEGY=none"
}

read_remote() {
    type -P git >/dev/null || fail $MISCONFIGURED "git is not installed (PATH=$PATH)" # not our function of that name
    [[ $url != -* && ($url == /* || $url == *:*) ]] ||
        fail $MISCONFIGURED "$repo: GITOPSD_URL '$url' is neither a URL nor an absolute path"
    ref=${ref#refs/heads/}
    [[ $ref != refs/* && $(command git check-ref-format --branch "$ref" 2>/dev/null) == "$ref" && $ref ]] ||
        fail $MISCONFIGURED "$repo: GITOPSD_REF '$ref' is not a branch name"
    [[ $hint =~ ^([0-9a-f]{40}|[0-9a-f]{64})?$ ]] || fail $MISCONFIGURED "$repo: GITOPSD_HINT '$hint' is not a commit id"
}

### prepare

is_empty() { [[ -d $1 && -r $1 && -x $1 && -z $(find "$1/" -mindepth 1 -print -quit) ]]; }

# A first checkout that was cut off before its .git was whole; see start_checkout.
start_was_cut_off() { [[ -e $path/.git/gitopsd-start ]] || { [[ ! -L $path/.git ]] && is_empty "$path/.git"; }; }

open_checkout() {
    local message here
    cd -- "$path" 2>/dev/null || refuse "cannot enter $path as $(id -un); check its owner and mode"
    here=$(pwd -P)
    if ! message=$(LC_ALL=C git rev-parse --git-dir 2>&1); then
        [[ $message != *"dubious ownership"* && $message != *"owned by someone else"* ]] ||
            refuse "dubious ownership: $path belongs to $(stat -c '%U (uid %u)' .), the sync runs as \
$(id -un) (uid $(id -u)); let it run as the owner (User=), or chown -R the checkout"
        refuse "$path/.git is no repository that git can use: ${message%%$'\n'*}"
    fi
    # A broken .git makes git look for a repository further up, and that one is not ours.
    [[ $(git rev-parse --show-toplevel 2>/dev/null) == "$here" ]] ||
        refuse "$path is not the top of a checkout; repair its .git, or move it away"
    git_dir=$(git rev-parse --absolute-git-dir)
    common_dir=$(cd -- "$(git rev-parse --git-common-dir)" && pwd -P)
    # The worktrees of one repository share their refs, and each is a repo of its own here.
    [[ $git_dir -ef $common_dir ]] || refs=refs/worktree/gitopsd
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
    origin=$(git remote get-url origin 2>/dev/null) ||
        refuse "no origin: $path has no remote 'origin'; run: $git_here remote add origin $url"
    wanted=$(git ls-remote --get-url -- "$url") # url.<base>.insteadOf, as get-url does it
    [[ $(remote_identity "$origin") == "$(remote_identity "$wanted")" ]] ||
        refuse "wrong remote: the origin of $path is $origin, and $repo is configured with $url; \
correct the configuration, or run: $git_here remote set-url origin $url"
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

# The repo's lock is ours, so a lock of git's belongs to a dead git or to somebody outside gitopsd. What lives is
# looked for after the locks: a git that comes later finds its lock taken and goes away.
remove_stale_locks() {
    local locks lock pid places owners
    mapfile -d '' -t locks < <({
        find "$git_dir" "$common_dir" -maxdepth 1 -type f -name '*.lock' -print0
        find "$git_dir/refs" "$common_dir/refs" -type f -name '*.lock' -print0
        find "$common_dir/objects/pack" "$common_dir/objects/info" -maxdepth 1 -type f \
            \( -name '*.lock' -o -name 'tmp_*' \) -print0
    } 2>/dev/null | sort -zu)
    ((${#locks[@]})) || return 0
    mapfile -t places < <(git worktree list --porcelain 2>/dev/null | sed -n 's/^worktree //p')
    owners=$(stat -c %u "${locks[@]}" 2>/dev/null | sort -u | tr '\n' ' ')
    if pid=$(live_git "$owners" "$path" "$(pwd -P)" "$git_dir" "$common_dir" "${places[@]}"); then
        fail $TRY_AGAIN "git (pid $pid) is at work in $path and ${locks[0]} is there; wait for its end, or end it"
    fi
    for lock in "${locks[@]}"; do
        rm -f -- "$lock" || fail $TRY_AGAIN "cannot remove the stale lock $lock; remove it"
        say "prepare: removed $lock, which a dead git left behind"
    done
}

unfinished() {
    local name
    for name in MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD rebase-merge rebase-apply BISECT_LOG; do
        [[ ! -e $git_dir/$name ]] || { say "$name" && return; }
    done
    return 1
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

# Save what stands in the way of the revision $1 and is neither in it nor in the tree $2, as a commit under its own ref.
save_rescue() {
    local target=$1 before=$2 index=$git_dir/gitopsd-rescue entry names tree commit name
    rm -f -- "$index"
    { git ls-files -s -z && git ls-tree -r -z "$target" && git ls-tree -r -z "$before"; } |
        while IFS= read -r -d '' entry; do
            [[ $entry == 160000* ]] || standing "${entry#*$'\t'}"
        done | sort -zu | GIT_INDEX_FILE=$index git update-index --add --replace -z --stdin || return
    mapfile -d '' -t names < <(LC_ALL=C comm -z -12 \
        <(GIT_INDEX_FILE=$index git diff-index --cached --name-only --diff-filter=AMT -z "$target") \
        <(GIT_INDEX_FILE=$index git diff-index --cached --name-only --diff-filter=AMT -z "$before"))
    tree=$(GIT_INDEX_FILE=$index git write-tree) && rm -f -- "$index" || return
    ((${#names[@]})) || return 0
    commit=$(GIT_AUTHOR_NAME=gitopsd GIT_AUTHOR_EMAIL=gitopsd@localhost GIT_COMMITTER_NAME=gitopsd \
        GIT_COMMITTER_EMAIL=gitopsd@localhost git commit-tree "$tree" ${head:+-p "$head"} \
        -m "Found when the activation of $target was finished: $(first_five "${names[@]}")") || return
    name=refs/gitopsd/rescue/$(LC_ALL=C TZ=UTC printf '%(%Y%m%dT%H%M%S)T.%sZ' -1 "${EPOCHREALTIME: -6}")
    git update-ref "$name" "$commit" "" || return
    say "prepare: saved what is in neither revision ($(first_five "${names[@]}")) as $name"
}

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
    if unfinished >/dev/null || { [[ $head && $head != "$deployed" ]] && ! is_ancestor "$head" "$target"; } ||
        [[ $staged != "$(git rev-parse "$before^{tree}")" && $staged != "$(git rev-parse "$target^{tree}")" ]]; then
        say "prepare: the activation of $target was cut off, and somebody worked here since; leaving the tree as it is"
    else
        say "prepare: the activation of $target was cut off; finishing it"
        save_rescue "$target" "$before" ||
            fail $TRY_AGAIN "cannot save the files in $path before finishing the activation of $target; see the log"
        if on_branch && { [[ -z $head ]] || is_ancestor "$head" "$target"; }; then
            git reset --quiet --hard "$target"
        else # it was a switch from another branch: back to that
            git read-tree --reset -u "$target" && git read-tree --reset -u "$before"
        fi || fail $TRY_AGAIN "cannot finish the activation of $target in $path; see the log"
    fi
    end_activation
}

prepare() {
    phase prepare
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
    remove_stale_locks
    at_start=$(revision HEAD)
    old=${deployed:-$at_start}
    finish_activation
}

### fetch

refuse_no_branch() {
    refuse "the remote has no branch $ref: $url; push it there, or correct the ref of $repo"
}

# Every step can be repeated, so one that was cut off is begun again, and gitopsd-start says that this .git is ours.
start_checkout() {
    local tip_there="" line format=sha1
    watch_git ls-remote -- "$url" "refs/heads/$ref" || fail $TRY_AGAIN "fetch: $(useful_line) ($url)"
    while IFS= read -r line; do
        [[ $line != *$'\t'"refs/heads/$ref" ]] || tip_there=${line%%$'\t'*}
    done <<<"$messages"
    [[ $tip_there ]] || refuse_no_branch
    ((${#tip_there} == 40)) || format=sha256
    say "fetch: starting a checkout in $path"
    { mkdir -p -- "$path/.git" && touch -- "$path/.git/gitopsd-start" && cd -- "$path"; } ||
        fail $TRY_AGAIN "cannot create $path as $(id -un); run: install -d -o $(id -un) $path, and see that its unit \
may write there (gitopsd check)"
    git_dir=$path/.git common_dir=$path/.git
    remove_stale_locks
    { git init --quiet --initial-branch="$ref" --object-format=$format &&
        git config remote.origin.url "$url" &&
        git config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*' &&
        follow_branch && rm -- .git/gitopsd-start; } || fail $TRY_AGAIN "cannot start a checkout in $path; see the log"
    open_checkout
}

follow_branch() { git config "branch.$ref.remote" origin && git config "branch.$ref.merge" "refs/heads/$ref"; }

# By URL and not by name, so that a refused sync leaves refs/remotes/origin as the operator knows it. No maintenance in
# the background: it would outlive us and keep the repo's lock.
fetch() {
    phase fetch
    say "fetch: $ref from $(printf '%s' "$url" | mask)"
    [[ $git_dir ]] || start_checkout
    tell old_revision "$old"
    fetch_tip
    wait_for_hint
    tell new_revision "$tip"
}

fetch_tip() {
    if ! watch_git fetch --no-recurse-submodules --no-auto-maintenance --no-write-fetch-head --no-prune \
        -- "$url" "+refs/heads/$ref:$refs/tip"; then
        [[ ${messages,,} != *"couldn't find remote ref"* ]] || refuse_no_branch
        fail $TRY_AGAIN "fetch: $(useful_line) ($url)"
    fi
    tip=$(revision $refs/tip) || fail $TRY_AGAIN "fetch: $ref of $url is not a commit"
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

refuse_local_changes() {
    local changes lines operation
    changes=$(git status --porcelain --untracked-files=no --no-renames --ignore-submodules=all) ||
        fail $TRY_AGAIN "select: git status failed in $path; see the log"
    if [[ $changes ]]; then
        say "$changes"
        mapfile -t lines <<<"$changes"
        refuse "local changes: ${#lines[@]} in $path: $(first_five "${lines[@]#???}"); \
commit and push them, or put them away with: $git_here stash"
    fi
    ! operation=$(unfinished) || refuse "local changes: an unfinished merge, rebase or bisect ($operation) in $path; \
finish or abort it"
}

refuse_diverged() {
    local base=$1 origin commits
    origin=$(revision "refs/remotes/origin/$ref")
    if is_ancestor "$base" "$deployed" || is_ancestor "$base" "$origin"; then
        refuse "history rewound: $ref was at ${base:0:12} and the remote now has ${tip:0:12}, which does not contain it; \
if that is wanted, run: $git_here reset --keep ${tip:0:12}"
    fi
    # shellcheck disable=SC2086  # each is empty or one revision
    commits=$(git log --format='%h %s' "$base" --not "$tip" $deployed $origin)
    say "$commits"
    mapfile -t commits <<<"$commits"
    refuse "local commits: ${#commits[@]} on $ref in $path that the remote does not have: \
$(first_five "${commits[@]}"); push or rebase them, or run: $git_here reset --keep ${tip:0:12}"
}

select_tip() {
    phase select
    local base there
    head=$(revision HEAD)
    base=$(revision "refs/heads/$ref")
    refuse_local_changes
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
    [[ -z $base ]] || is_ancestor "$base" "$tip" || refuse_diverged "$base"
}

### activate

end_activation() {
    sync -f . || say "activate: sync failed for $path" # a power cut must not find the marker gone and files empty
    git update-ref -d $refs/activating || fail $TRY_AGAIN "cannot delete $refs/activating in $path; see the log"
}

activate() {
    phase activate
    local log=$git_dir/gitopsd-messages names new_branch=no
    revision "refs/heads/$ref" >/dev/null || new_branch=yes
    say "activate: ${head:-nothing} -> $tip"
    git update-ref $refs/activating "$tip" || fail $TRY_AGAIN "cannot write $refs/activating in $path; see the log"
    git checkout --quiet --no-overwrite-ignore --no-track -B "$ref" "$tip" -- 2>"$log" || {
        messages=$(mask <"$log")
        say "$messages" >&2
        stands_at_tip || {
            mapfile -t names < <(sed -n 's/^\t//p' <<<"$messages")
            # Both refusals come before git touches anything.
            ((${#names[@]} == 0)) && [[ $messages != *index.lock* ]] || git update-ref -d $refs/activating
            ((${#names[@]} == 0)) || refuse "in the way: ${tip:0:12} would overwrite ${#names[@]} files in $path that are \
not in git: $(first_five "${names[@]}"); move them away"
            fail $TRY_AGAIN "activate: $(useful_line) ($path)"
        }
        say "activate: the checkout's post-checkout hook failed; the tree stands"
    }
    rm -f -- "$log"
    [[ $new_branch == no ]] || follow_branch
    end_activation
}

### deploy

# In a subshell of its own, so that nothing of the engine's reaches the command: not its variables, not the lock.
run_deploy() (
    exec 2>&3 3>&-
    export GITOPSD_REPO=$repo GITOPSD_REF=$ref GITOPSD_PATH=$path GITOPSD_OLD_REVISION=$old GITOPSD_NEW_REVISION=$tip
    unset GITOPSD_OUTPUT GITOPSD_LOCK_FD GITOPSD_URL GITOPSD_HINT
    # shellcheck disable=SC2093  # the braces' file descriptor is closed only with exec in the same command
    if [[ $lock_fd ]]; then exec "${deploy_command[@]}" </dev/null {lock_fd}>&-; fi
    exec "${deploy_command[@]}" </dev/null
)

deploy() {
    phase deploy
    local name=${deploy_command[0]} status
    local executable="run: git update-index --chmod=+x $name, commit and push" there="commit and push it"
    [[ $strategy != none ]] || executable="run in $path: chmod +x $name" there="put it there"
    say "deploy: $name"
    [[ ! -f $name || $name != */* || -x $name ]] || fail $DEPLOY_FAILED "deploy: $name is not executable; $executable"
    [[ $name != */* || -f $name ]] || fail $DEPLOY_FAILED "deploy: $name is not there (in $path); $there"
    type -P -- "$name" >/dev/null || fail $DEPLOY_FAILED "deploy: $name was not found (PATH=$PATH)"
    { run_deploy; } 3>&2 2>/dev/null # bash's own "Killed" is not for anybody
    status=$?
    ((status <= 128 || status > 192)) ||
        fail $DEPLOY_FAILED "deploy: $name was ended by SIG$(kill -l $((status - 128)) 2>/dev/null)"
    ((status == 0)) || fail $DEPLOY_FAILED "deploy: $name exited with $status"
}

# With the key that systemd has loaded for this repo alone, if there is one. A unit without one has a stand-in there.
ssh_command() {
    local key=${CREDENTIALS_DIRECTORY-}/ssh-key
    printf 'ssh -o BatchMode=yes'
    [[ ! -r $key || $(head -c 10 -- "$key") != -----BEGIN ]] || printf ' -o IdentitiesOnly=yes -i %q' "$key"
}

# Without git: what asked for it is all that has changed.
run_command() {
    phase prepare
    [[ -d $path ]] || refuse "$path is not a directory; make it, or correct the path of $repo"
    cd -- "$path" 2>/dev/null || refuse "cannot enter $path as $(id -un); check its owner and mode"
    tell changed yes
    deploy
}

bring_to_tip() {
    local -x GIT_TERMINAL_PROMPT=0
    local set_by_operator=${GIT_SSH_COMMAND-}${GIT_SSH-}
    prepare
    [[ $set_by_operator || $(git config core.sshCommand) ]] || { local -x GIT_SSH_COMMAND && GIT_SSH_COMMAND=$(ssh_command); }
    fetch
    select_tip
    stands_at_tip || activate
    git update-ref "refs/remotes/origin/$ref" "$tip" || say "activate: refs/remotes/origin/$ref stays where it was"
}

main() {
    [[ $output == /* || -z $output ]] || output=$PWD/$output
    # shellcheck disable=SC2046  # names, one a word
    unset $(command git rev-parse --local-env-vars 2>/dev/null)
    read_configuration "$@"
    cd / || fail $TRY_AGAIN "cannot enter /" # no other repository's configuration
    if [[ $strategy == none ]]; then
        run_command
        return
    fi
    bring_to_tip
    local changed=no due=no
    if ((${#deploy_command[@]})) && [[ $at_start != "$tip" || $deployed != "$tip" || $force == yes ]]; then due=yes; fi
    if [[ $at_start != "$tip" || $due == yes ]]; then changed=yes; fi
    tell changed $changed
    if [[ $changed == no ]]; then say "select: $ref is at $tip; nothing to do"; fi
    if [[ $due == yes ]]; then deploy; fi
    [[ $deployed == "$tip" ]] || git update-ref $refs/deployed "$tip" ||
        fail $TRY_AGAIN "deployed $tip, but cannot write $refs/deployed in $path; see the log"
    [[ $changed == no ]] || git -c gc.autoDetach=false gc --auto --quiet || say "gc failed in $path"
}

main "$@"
