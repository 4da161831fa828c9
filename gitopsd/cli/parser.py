"""The commands and their arguments."""

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path

from gitopsd import __doc__ as caption
from gitopsd import __version__
from gitopsd.cli import commands as calls
from gitopsd.config import DEFAULT_PATH
from gitopsd.config.values import seconds

_EPILOG = """\
exit codes: 0 done, 1 failed, 2 wrong usage, 75 busy or try again, 77 refused by a policy, 78 configuration

gitopsd status shows every repo; gitopsd why REPO explains what became of the last push."""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; `command` is what to call."""
    parser = argparse.ArgumentParser(
        prog="gitopsd",
        description=caption,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gitopsd {__version__}")
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=Path(os.environ.get("GITOPSD_CONFIG") or DEFAULT_PATH),
        help=f"the configuration (default: $GITOPSD_CONFIG, else {DEFAULT_PATH})",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    parser.set_defaults(command=None)

    _add_setup(commands)
    _add_daily(commands)
    _add_holds(commands)
    _add_services(commands)
    return parser


def _add_setup(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """What is done once for a host or a repo."""
    init = _add(commands, "init", calls.init, "make the webhook secret, and show what to paste at the provider")
    init.add_argument("receivers", metavar="RECEIVER", nargs="*", help="of these receivers only")
    init.add_argument("--host", metavar="HOST", default="", help="the public name of this host, for whole URLs")
    rotation = init.add_mutually_exclusive_group()
    rotation.add_argument("--rotate", action="store_true", help="make a second secret; both are accepted for a while")
    rotation.add_argument(
        "--finish", action="store_true", help="drop the old secret, once all senders have the new one"
    )

    add = _add(commands, "add", calls.add_repo, "configure a repo: its file, its directory, its deploy key")
    add.add_argument("url", metavar="URL", help="where to fetch from, anything that git clone takes")
    add.add_argument("--name", metavar="NAME", help="its name here (default: the last part of the URL)")
    add.add_argument("--path", metavar="PATH", help="its checkout, or symlink (default: /srv/NAME, /srv/NAME/current)")
    add.add_argument("--ref", metavar="REF", help="the branch, or pattern of tags, to follow (default: its own branch)")
    add.add_argument("--strategy", metavar="STRATEGY", help="in-place (the default) or release; see gitopsd.yaml(5)")

    remove = _add(commands, "remove", calls.remove, "take a repo out of the configuration; its checkout stays")
    remove.add_argument("name", metavar="NAME", help="the repo")
    remove.add_argument("--yes", action="store_true", help="do not ask")

    check = _add(
        commands, "check", calls.check, "show every problem of the configuration, its secrets, remotes and paths"
    )
    check.add_argument("--offline", action="store_true", help="do not ask the remotes")
    _add_json(check)


def _add_daily(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """What is done whenever somebody wants to know, or to see something done."""
    sync = _add(commands, "sync", calls.sync, "sync repos now, the same way as a push does")
    sync.add_argument("repos", metavar="REPO", nargs="*", help="the repos to sync")
    sync.add_argument("--all", action="store_true", help="sync every repo")
    sync.add_argument("--no-wait", action="store_true", help="start it and do not wait for the outcome")
    sync.add_argument("--force", action="store_true", help="run the deploy command although the revision is deployed")
    _add_json(sync)

    status = _add(commands, "status", calls.status, "how every repo stands")
    status.add_argument("repo", metavar="REPO", nargs="?", help="this repo only")
    _add_json(status)

    history = _add(commands, "history", calls.history, "the jobs so far, newest first")
    history.add_argument("repo", metavar="REPO", nargs="?", help="of this repo only")
    history.add_argument("--limit", metavar="N", type=_positive, default=20, help="at most N jobs (default: 20)")
    _add_json(history)

    logs = _add(commands, "logs", calls.logs, "the output of a job")
    logs.add_argument("target", metavar="REPO|JOB", help="a job's number, or a repo for its newest job")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")

    deliveries = _add(
        commands, "deliveries", calls.deliveries, "what has come so far and what was decided, newest first"
    )
    deliveries.add_argument("receiver", metavar="RECEIVER", nargs="?", help="to this receiver only")
    deliveries.add_argument("--limit", metavar="N", type=_positive, default=20, help="at most N (default: 20)")
    _add_json(deliveries)

    replay = _add(commands, "replay", calls.replay, "take a delivery once more, by the configuration of today")
    replay.add_argument("delivery", metavar="DELIVERY", help="its number in gitopsd deliveries, or its id")
    replay.add_argument("--no-wait", action="store_true", help="start what it asks for and do not wait for the outcome")
    _add_json(replay)

    receivers = _add(commands, "receivers", calls.receivers, "where deliveries are sent to, and what came last")
    receivers.add_argument("--host", metavar="HOST", default="", help="the public name of this host, for whole URLs")
    _add_json(receivers)

    why = _add(commands, "why", calls.why, "what became of the last delivery for a repo, and why")
    why.add_argument("repo", metavar="REPO")
    why.add_argument(
        "revision", metavar="REVISION", nargs="?", help="the last one about this revision (or its beginning)"
    )
    _add_json(why)

    rescued = _add(commands, "rescued", calls.rescued, "the work that syncs found in the way of a repo, and have saved")
    rescued.add_argument("repo", metavar="REPO")
    _add_json(rescued)


def _add_holds(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """What keeps a repo as it is, or as it was."""
    hold = _add(commands, "hold", calls.hold, "deploy nothing of a repo for a while; what comes for it is recorded")
    hold.add_argument("repo", metavar="REPO")
    hold.add_argument("--reason", metavar="TEXT", type=_text, required=True, help="why, for everybody who looks")
    hold.add_argument("--for", metavar="DURATION", type=_seconds, dest="for_sec", help="for so long, such as 2h or 3d")

    resume = _add(commands, "resume", calls.resume, "hold a repo no longer, and do what has waited")
    resume.add_argument("repo", metavar="REPO")
    resume.add_argument("--no-wait", action="store_true", help="start it and do not wait for the outcome")
    _add_json(resume)

    rollback = _add(commands, "rollback", calls.rollback, "take a repo back to an earlier revision, and hold it there")
    rollback.add_argument("repo", metavar="REPO")
    rollback.add_argument(
        "--to", metavar="REVISION", help="to this one, or what it begins with (default: the one before)"
    )
    rollback.add_argument("--reason", metavar="TEXT", type=_text, help="why, for everybody who looks")
    rollback.add_argument("--no-wait", action="store_true", help="start it and do not wait for the outcome")
    _add_json(rollback)


def _add_services(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """What units run."""
    serve = _add(commands, "serve", calls.serve, "receive webhooks and start what they ask for")
    serve.add_argument("--listen", metavar="ADDRESS", help="HOST:PORT or unix:PATH (default: the inherited sockets)")

    poll = _add(
        commands, "poll", calls.poll, "ask every remote, and queue a sync where one has moved (gitopsd-poll.timer)"
    )
    _add_json(poll)

    what = "queue a sync of every repo that has a remote (gitopsd-catchall.timer)"
    catchall = _add(commands, "catchall", calls.catchall, what)
    _add_json(catchall)

    run = _add(
        commands, "run", calls.run, "sync one repo until none of its jobs is due (what a unit or the daemon starts)"
    )
    run.add_argument("repo", metavar="REPO")

    notify = _add(
        commands, "notify", calls.notify, "tell people and forges what became of syncs (gitopsd-notify.service)"
    )
    notify.add_argument("--test", action="store_true", help="send a trial message, and say who has taken it")

    _add(commands, "version", calls.version, "print the version")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(command=command)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for machines")


def _positive(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError("give a whole number from 1")
    return int(text)


def _text(text: str) -> str:
    if line := " ".join(text.split()):
        return line
    raise argparse.ArgumentTypeError("say something")


def _seconds(text: str) -> float:
    if not re.fullmatch("[0-9]{1,6}[smhd]", text) or int(text[:-1]) == 0:
        raise argparse.ArgumentTypeError("give a whole number from 1 and a unit (s, m, h, d), such as 2h")
    return seconds(text, 0.0)
