# shellcheck shell=bash
# Completion of gitopsd for bash. Needs nothing but bash.

# The configured repos, for the configuration that the line names; none where this user may not see them.
_gitopsd_repos() {
    timeout 3 gitopsd "$@" status --json 2>/dev/null </dev/null |
        grep -oE '"name": ?"[a-z0-9][a-z0-9._-]*"' | cut -d '"' -f 4
}

_gitopsd() {
    local cur=$2 word before="" command="" words="" config=() given=" " index positionals=0
    COMPREPLY=()
    # With --config=FILE bash hands over three words, and the second, =, may be the one before the cursor.
    [[ $cur != = ]] || cur=""
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        [[ $word != = ]] || continue
        case $before in
            --config) config=(--config "${word/#~\//$HOME/}") before="" && continue ;;
            --for | --host | --limit | --listen | --name | --path | --reason | --ref | --strategy | --to) before="" && continue ;;
        esac
        before=$word
        if [[ $word == -* ]]; then
            continue
        elif [[ ! $command ]]; then
            command=$word
        else
            given+="$word " positionals=$((positionals + 1))
        fi
    done

    case $before in
        --config)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        --path)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        --strategy) words="in-place release" ;;
        --for | --host | --limit | --listen | --name | --reason | --ref | --to) return ;;
        *) words=$(_gitopsd_words) ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

# What may stand at the cursor, with the variables of _gitopsd.
_gitopsd_words() {
    case $command:$cur in
        :-*) echo --config --version --help ;;
        :*) echo init add remove check sync hold resume rollback status why rescued history logs deliveries replay receivers version serve run poll catchall notify ;;
        init:-*) echo --host --rotate --finish --help ;;
        add:-*) echo --name --path --ref --strategy --help ;;
        remove:-*) echo --yes --help ;;
        check:-*) echo --offline --json --help ;;
        sync:-*) echo --all --force --no-wait --json --help ;;
        hold:-*) echo --reason --for --help ;;
        rollback:-*) echo --to --reason --no-wait --json --help ;;
        history:-*) echo --limit --json --help ;;
        logs:-*) echo --follow --help ;;
        deliveries:-*) echo --limit --json --help ;;
        resume:-* | replay:-*) echo --no-wait --json --help ;;
        receivers:-*) echo --host --json --help ;;
        status:-* | why:-* | rescued:-* | poll:-* | catchall:-*) echo --json --help ;;
        serve:-*) echo --listen --help ;;
        notify:-*) echo --test --help ;;
        run:-* | version:-*) echo --help ;;
        sync:*) _gitopsd_repos "${config[@]}" | while read -r word; do [[ $given == *" $word "* ]] || echo "$word"; done ;;
        remove:* | hold:* | resume:* | rollback:* | status:* | why:* | rescued:* | history:* | logs:* | run:*) ((positionals)) || _gitopsd_repos "${config[@]}" ;;
    esac
}

complete -F _gitopsd gitopsd
