#!/usr/bin/env bash
# Shows the main job on this machine: a push to a scratch remote is delivered as GitHub would, and deployed.
#
#   scripts/quickstart.sh [--keep]
#
# Exit 0 only if the commit is in place. --keep leaves it running and says how to play with it.
set -euo pipefail
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE # of a git hook around us

cd "$(dirname "${BASH_SOURCE[0]}")/.."

top=$PWD
keep=
daemon=
scratch=

fail() {
    echo "error: $*" >&2
    [[ -z $scratch || ! -s $scratch/daemon.log ]] || sed 's/^/  daemon: /' "$scratch/daemon.log" >&2
    exit 1
}

clean_up() {
    [[ -z $daemon ]] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
    [[ -z $scratch ]] || rm -rf "$scratch"
}

gitopsd() { "$top/.venv/bin/gitopsd" --config "$scratch/gitopsd.yaml" "$@"; }

say() { printf '\n== %s\n' "$*"; }

make_remote() {
    git init --quiet --bare "$scratch/remote/demo/site.git"
    git clone --quiet "$scratch/remote/demo/site.git" "$scratch/work" 2>/dev/null
    git -C "$scratch/work" config user.name quickstart
    git -C "$scratch/work" config user.email quickstart@localhost
    git -C "$scratch/work" config commit.gpgsign false
    cat >"$scratch/work/deploy.sh" <<'END'
#!/bin/sh
echo "deploying $GITOPSD_NEW_REVISION"
cp index.html ../published.html
END
    chmod +x "$scratch/work/deploy.sh"
    echo '<h1>first</h1>' >"$scratch/work/index.html"
    push 'first page'
}

push() {
    git -C "$scratch/work" add --all
    git -C "$scratch/work" commit --quiet -m "$1"
    git -C "$scratch/work" push --quiet origin HEAD:main
}

write_config() {
    cat >"$scratch/gitopsd.yaml" <<END
state_dir: $scratch/state
stop_timeout: 2s
repos:
  site:
    url: $scratch/remote/demo/site.git
    path: $scratch/site
    deploy: [./deploy.sh]
END
}

start_daemon() {
    local serve=("$top/.venv/bin/gitopsd" --config "$scratch/gitopsd.yaml" serve)
    local handed_over=(systemd-socket-activate --listen="127.0.0.1:$port" --fdname=webhook
        --setenv=PATH --setenv=HOME --setenv=GITHUB_WEBHOOK_SECRET)
    if command -v systemd-socket-activate >/dev/null; then
        serve=("${handed_over[@]}" "${serve[@]}")
        echo "listening on 127.0.0.1:$port (systemd-socket-activate)"
    else
        serve+=(--listen "127.0.0.1:$port")
        echo "listening on 127.0.0.1:$port (--listen)"
    fi
    # A session of its own: with --keep it outlives this script and its terminal.
    setsid "${serve[@]}" </dev/null >"$scratch/daemon.log" 2>&1 &
    daemon=$!
    # The socket takes connections before there is a daemon, but not before there is a socket.
    wait_until 10 port_is_open || fail "nothing listens on 127.0.0.1:$port"
}

port_is_open() { (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

# Waits for a condition, with a limit in seconds.
wait_until() {
    local limit=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < limit)) || return 1
        sleep 0.05
    done
}

is_in_place() {
    [[ $(git -C "$scratch/site" rev-parse --verify --quiet HEAD 2>/dev/null) == "$1" ]] &&
        cmp --quiet "$scratch/work/index.html" "$scratch/published.html" &&
        gitopsd history site --json | grep --quiet '"state": "succeeded"'
}

# push → accepted → fetched → deployed, from the record that `gitopsd why` shows too.
show_timeline() {
    gitopsd why site --json | "$top/.venv/bin/python" -c '
import json, sys
from datetime import datetime

why, pushed_at = json.load(sys.stdin), float(sys.argv[1])
job = why["jobs"][-1]
phases = {phase["phase"]: phase["at"] for phase in job["phases"]}
moments = [
    ("accepted", why["delivery"]["received_at"]),
    ("fetched", phases["select"]),
    ("deployed", job["finished_at"]),
]
print(f"  push      +0.000 s")
for name, at in moments:
    print(f"  {name:<9} +{datetime.fromisoformat(at).timestamp() - pushed_at:.3f} s")
' "$1"
}

explain_keep() {
    say "It is left running"
    cat <<END
  export GITHUB_WEBHOOK_SECRET=$GITHUB_WEBHOOK_SECRET GITOPSD_CONFIG=$scratch/gitopsd.yaml PATH=$top/.venv/bin:\$PATH
  cd $scratch/work                    # change something, commit, git push origin HEAD:main, and then either
  gitopsd sync site                   # … sync it now, or
  $top/scripts/deliver.py http://127.0.0.1:$port/api/webhook/gitops \\
    --url $scratch/remote/demo/site.git --name demo/site --revision \$(git rev-parse HEAD)
  gitopsd status; gitopsd why site; gitopsd logs site; gitopsd history
  cd / && kill $daemon && rm -rf $scratch   # the end of it
END
    daemon='' scratch=''
}

main() {
    case ${1-} in
        '') ;;
        --keep) keep=yes ;;
        *) fail "unknown option $1; usage: scripts/quickstart.sh [--keep]" ;;
    esac
    ./scripts/bootstrap.sh
    trap clean_up EXIT
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/gitopsd-quickstart.XXXXXX")
    GITHUB_WEBHOOK_SECRET=$("$top/.venv/bin/python" -c 'import secrets; print(secrets.token_hex(20))')
    export GITHUB_WEBHOOK_SECRET
    port=$("$top/.venv/bin/python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')

    say "A remote, a clone of it, and the daemon"
    make_remote
    write_config
    start_daemon

    say "git push, and its delivery as GitHub signs it"
    echo '<h1>second</h1>' >"$scratch/work/index.html"
    push 'second page'
    local pushed_at=$EPOCHREALTIME revision
    revision=$(git -C "$scratch/work" rev-parse HEAD)
    ./scripts/deliver.py "http://127.0.0.1:$port/api/webhook/gitops" \
        --url "$scratch/remote/demo/site.git" --name demo/site --revision "$revision" || fail "it was not accepted"
    wait_until 20 is_in_place "$revision" || { gitopsd logs site && gitopsd status; fail "the commit is not in place"; }

    say "In place: $revision"
    show_timeline "$pushed_at"
    say "gitopsd status"
    gitopsd status
    say "gitopsd logs site"
    gitopsd logs site
    [[ -z $keep ]] || explain_keep
}

main "$@"
