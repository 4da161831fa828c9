# Completion of gitopsd for fish.

# The words before the cursor that are no options and no values of such; the first is the command.
function __gitopsd_words
    set -l before
    for word in (commandline -opc)[2..]
        if not contains -- "$before" --config --limit --reason --for --to; and not string match -q -- '-*' $word
            echo $word
        end
        set before $word
    end
end

# Whether the command on the line is one of these; without any: whether there is none yet.
function __gitopsd_in
    set -l command (__gitopsd_words)[1]
    test (count $argv) = 0 -a -z "$command"; or contains -- "$command" $argv
end

# The same, and nothing but options follows it.
function __gitopsd_first_of
    __gitopsd_in $argv; and test (__gitopsd_words | count) = 1
end

# The configured repos, for the configuration that the line names; none where this user may not see them.
function __gitopsd_repos
    # No repo's name begins with a dash, so nobody has to wait for them there.
    string match -q -- '-*' (commandline -ct); and return
    set -l words (commandline -opc)
    set -l config (string match -rg -- '^--config=(.+)$' $words)
    if set -l at (contains -i -- --config $words)
        set config $words[(math $at + 1)]
    end
    set -q config[1]; and set config --config (string replace -r '^~/' "$HOME/" -- $config[1])
    timeout 3 gitopsd $config status --json 2>/dev/null </dev/null |
        string match -rga '"name": ?"([a-z0-9][a-z0-9._-]*)"'
end

function __gitopsd_more_repos
    set -l given (__gitopsd_words)
    for repo in (__gitopsd_repos)
        contains -- $repo $given; or echo $repo
    end
end

complete -c gitopsd -f
complete -c gitopsd -s h -l help -d 'show help'
complete -c gitopsd -n __gitopsd_in -l config -r -F -d 'the configuration'
complete -c gitopsd -n __gitopsd_in -l version -d 'print the version'

complete -c gitopsd -n __gitopsd_in -a init -d 'make the webhook secret, and show what to paste at the provider'
complete -c gitopsd -n __gitopsd_in -a add -d 'add a repo'
complete -c gitopsd -n __gitopsd_in -a remove -d 'forget a repo'
complete -c gitopsd -n __gitopsd_in -a check -d 'show every problem of the configuration'
complete -c gitopsd -n __gitopsd_in -a sync -d 'sync repos now, the same way as a push does'
complete -c gitopsd -n __gitopsd_in -a hold -d 'deploy nothing of a repo for a while'
complete -c gitopsd -n __gitopsd_in -a resume -d 'hold a repo no longer, and do what has waited'
complete -c gitopsd -n __gitopsd_in -a rollback -d 'take a repo back to an earlier revision, and hold it there'
complete -c gitopsd -n __gitopsd_in -a status -d 'how every repo stands'
complete -c gitopsd -n __gitopsd_in -a why -d 'what became of the last delivery for a repo, and why'
complete -c gitopsd -n __gitopsd_in -a rescued -d 'the work that syncs found in the way of a repo, and have saved'
complete -c gitopsd -n __gitopsd_in -a history -d 'the jobs so far, newest first'
complete -c gitopsd -n __gitopsd_in -a logs -d 'the output of a job'
complete -c gitopsd -n __gitopsd_in -a deliveries -d 'what has come so far and what was decided, newest first'
complete -c gitopsd -n __gitopsd_in -a replay -d 'take a delivery once more, by the configuration of today'
complete -c gitopsd -n __gitopsd_in -a receivers -d 'where deliveries are sent to, and what came last'
complete -c gitopsd -n __gitopsd_in -a version -d 'print the version'
complete -c gitopsd -n __gitopsd_in -a serve -d 'receive webhooks and start what they ask for'
complete -c gitopsd -n __gitopsd_in -a run -d 'sync one repo until none of its jobs is due'
complete -c gitopsd -n __gitopsd_in -a poll -d 'ask every remote, and queue a sync where one has moved'
complete -c gitopsd -n __gitopsd_in -a catchall -d 'queue a sync of every repo'
complete -c gitopsd -n __gitopsd_in -a notify -d 'tell people and forges what became of syncs'

complete -c gitopsd -n '__gitopsd_in init receivers' -l host -x -d 'the public host name'
complete -c gitopsd -n '__gitopsd_in init' -l rotate -d 'make a second secret beside the first'
complete -c gitopsd -n '__gitopsd_in init' -l finish -d 'drop the old secret'
complete -c gitopsd -n '__gitopsd_in add' -l name -x -d 'its name here'
complete -c gitopsd -n '__gitopsd_in add' -l path -x -a '(__fish_complete_directories)' -d 'the checkout'
complete -c gitopsd -n '__gitopsd_in add' -l ref -x -d 'the branch to follow'
complete -c gitopsd -n '__gitopsd_in add' -l strategy -x -a 'in-place release' -d 'how a revision goes live'
complete -c gitopsd -n '__gitopsd_in remove' -l yes -d 'do not ask'
complete -c gitopsd -n '__gitopsd_in check' -l offline -d 'do not ask the remotes'
complete -c gitopsd -n '__gitopsd_in sync' -l all -d 'sync every repo'
complete -c gitopsd -n '__gitopsd_in sync' -l force -d 'run the deploy command although the revision is deployed'
complete -c gitopsd -n '__gitopsd_in sync resume rollback replay' -l no-wait -d 'do not wait for the outcome'
complete -c gitopsd -n '__gitopsd_in hold rollback' -l reason -x -d 'why, for everybody who looks'
complete -c gitopsd -n '__gitopsd_in hold' -l for -x -d 'for so long, such as 2h'
complete -c gitopsd -n '__gitopsd_in rollback' -l to -x -d 'to this revision'
complete -c gitopsd -n '__gitopsd_in history deliveries' -l limit -x -d 'at most so many'
complete -c gitopsd -n '__gitopsd_in logs' -s f -l follow -d 'go on until the job has ended'
complete -c gitopsd -n '__gitopsd_in notify' -l test -d 'send a trial message, and say who has taken it'
complete -c gitopsd -n '__gitopsd_in serve' -l listen -x -d 'HOST:PORT or unix:PATH'
complete -c gitopsd -n '__gitopsd_in check sync resume rollback status why rescued history poll catchall' -l json -d 'for machines'
complete -c gitopsd -n '__gitopsd_in deliveries replay receivers' -l json -d 'for machines'

complete -c gitopsd -n '__gitopsd_in sync' -a '(__gitopsd_more_repos)' -d repo
complete -c gitopsd -n '__gitopsd_first_of remove hold resume rollback status why rescued history logs run' -a '(__gitopsd_repos)' -d repo
