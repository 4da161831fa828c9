"""Commands, terminal output, exit codes."""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from gitopsd import __doc__ as caption
from gitopsd import __version__
from gitopsd.cli.exits import EXIT_BUSY, EXIT_CONFIG, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from gitopsd.config import DEFAULT_PATH
from gitopsd.config.values import seconds
from gitopsd.errors import BusyError, ConfigError, GitopsdError

_EPILOG = """\
exit codes: 0 done, 1 failed, 2 wrong usage, 75 busy or try again, 77 refused by a policy, 78 configuration

gitopsd status shows every repo; gitopsd why REPO explains what became of the last push."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    parser = _parser()
    arguments = _parse(parser, argv)
    if arguments.command is None:
        parser.print_help()
        sys.exit(EXIT_USAGE)
    try:
        code = arguments.command(arguments)
        sys.stdout.flush()
    except ConfigError as error:
        code = _complain(*error.problems, code=EXIT_CONFIG)
    except BusyError as error:
        code = _complain(str(error), code=EXIT_BUSY)
    except GitopsdError as error:
        code = _complain(str(error), code=EXIT_FAILED)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        code = _complain(f"{error.filename or 'the output'}: {error.strerror}", code=EXIT_FAILED)
    except ImportError as error:
        code = _complain(f"{error}: gitopsd is just being upgraded, or not installed as a whole", code=EXIT_FAILED)
    except Exception as error:  # noqa: BLE001 - whatever it is, a person gets one line and not a traceback
        code = _complain(f"a fault in gitopsd: {error!r} at {_place(error)}; please report it", code=EXIT_FAILED)
    sys.exit(code)


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        is_config = any(word.partition("=")[0] == "--config" for word in unknown)
        hint = "; --config stands before the command" if is_config else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return arguments


def _complain(*lines: str, code: int) -> int:
    for line in lines:
        # Some of it may be a stranger's, and must not steer the terminal.
        plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
        print(f"gitopsd: {plain}", file=sys.stderr)
    return code


def _place(error: Exception) -> str:
    """Where `error` was raised, as file:line."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{place.filename}:{place.lineno}"


def _parser() -> argparse.ArgumentParser:
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
    init = _add(commands, "init", _init, "make the webhook secret, and show what to paste at the provider")
    init.add_argument("receivers", metavar="RECEIVER", nargs="*", help="of these receivers only")
    init.add_argument("--host", metavar="HOST", default="", help="the public name of this host, for whole URLs")
    rotation = init.add_mutually_exclusive_group()
    rotation.add_argument("--rotate", action="store_true", help="make a second secret; both are accepted for a while")
    rotation.add_argument(
        "--finish", action="store_true", help="drop the old secret, once all senders have the new one"
    )

    add = _add(commands, "add", _add_repo, "configure a repo: its file, its directory, its deploy key")
    add.add_argument("url", metavar="URL", help="where to fetch from, anything that git clone takes")
    add.add_argument("--name", metavar="NAME", help="its name here (default: the last part of the URL)")
    add.add_argument("--path", metavar="PATH", help="its checkout, or symlink (default: /srv/NAME, /srv/NAME/current)")
    add.add_argument("--ref", metavar="REF", help="the branch, or pattern of tags, to follow (default: its own branch)")
    add.add_argument("--strategy", metavar="STRATEGY", help="in-place (the default) or release; see gitopsd.yaml(5)")

    remove = _add(commands, "remove", _remove, "take a repo out of the configuration; its checkout stays")
    remove.add_argument("name", metavar="NAME", help="the repo")
    remove.add_argument("--yes", action="store_true", help="do not ask")

    check = _add(commands, "check", _check, "show every problem of the configuration, its secrets, remotes and paths")
    check.add_argument("--offline", action="store_true", help="do not ask the remotes")
    _add_json(check)


def _add_daily(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """What is done whenever somebody wants to know, or to see something done."""
    sync = _add(commands, "sync", _sync, "sync repos now, the same way as a push does")
    sync.add_argument("repos", metavar="REPO", nargs="*", help="the repos to sync")
    sync.add_argument("--all", action="store_true", help="sync every repo")
    sync.add_argument("--no-wait", action="store_true", help="start it and do not wait for the outcome")
    sync.add_argument("--force", action="store_true", help="run the deploy command although the revision is deployed")
    _add_json(sync)

    status = _add(commands, "status", _status, "how every repo stands")
    status.add_argument("repo", metavar="REPO", nargs="?", help="this repo only")
    _add_json(status)

    history = _add(commands, "history", _history, "the jobs so far, newest first")
    history.add_argument("repo", metavar="REPO", nargs="?", help="of this repo only")
    history.add_argument("--limit", metavar="N", type=_positive, default=20, help="at most N jobs (default: 20)")
    _add_json(history)

    logs = _add(commands, "logs", _logs, "the output of a job")
    logs.add_argument("target", metavar="REPO|JOB", help="a job's number, or a repo for its newest job")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")

    deliveries = _add(commands, "deliveries", _deliveries, "what has come so far and what was decided, newest first")
    deliveries.add_argument("receiver", metavar="RECEIVER", nargs="?", help="to this receiver only")
    deliveries.add_argument("--limit", metavar="N", type=_positive, default=20, help="at most N (default: 20)")
    _add_json(deliveries)

    replay = _add(commands, "replay", _replay, "take a delivery once more, by the configuration of today")
    replay.add_argument("delivery", metavar="DELIVERY", help="its number in gitopsd deliveries, or its id")
    replay.add_argument("--no-wait", action="store_true", help="start what it asks for and do not wait for the outcome")
    _add_json(replay)

    receivers = _add(commands, "receivers", _receivers, "where deliveries are sent to, and what came last")
    receivers.add_argument("--host", metavar="HOST", default="", help="the public name of this host, for whole URLs")
    _add_json(receivers)

    why = _add(commands, "why", _why, "what became of the last delivery for a repo, and why")
    why.add_argument("repo", metavar="REPO")
    why.add_argument(
        "revision", metavar="REVISION", nargs="?", help="the last one about this revision (or its beginning)"
    )
    _add_json(why)

    rescued = _add(commands, "rescued", _rescued, "the work that syncs found in the way of a repo, and have saved")
    rescued.add_argument("repo", metavar="REPO")
    _add_json(rescued)


def _add_holds(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """What keeps a repo as it is, or as it was."""
    hold = _add(commands, "hold", _hold, "deploy nothing of a repo for a while; what comes for it is recorded")
    hold.add_argument("repo", metavar="REPO")
    hold.add_argument("--reason", metavar="TEXT", type=_text, required=True, help="why, for everybody who looks")
    hold.add_argument("--for", metavar="DURATION", type=_seconds, dest="for_sec", help="for so long, such as 2h or 3d")

    resume = _add(commands, "resume", _resume, "hold a repo no longer, and do what has waited")
    resume.add_argument("repo", metavar="REPO")
    resume.add_argument("--no-wait", action="store_true", help="start it and do not wait for the outcome")
    _add_json(resume)

    rollback = _add(commands, "rollback", _rollback, "take a repo back to an earlier revision, and hold it there")
    rollback.add_argument("repo", metavar="REPO")
    rollback.add_argument(
        "--to", metavar="REVISION", help="to this one, or what it begins with (default: the one before)"
    )
    rollback.add_argument("--reason", metavar="TEXT", type=_text, help="why, for everybody who looks")
    rollback.add_argument("--no-wait", action="store_true", help="start it and do not wait for the outcome")
    _add_json(rollback)


def _add_services(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """What units run."""
    serve = _add(commands, "serve", _serve, "receive webhooks and start what they ask for")
    serve.add_argument("--listen", metavar="ADDRESS", help="HOST:PORT or unix:PATH (default: the inherited sockets)")

    poll = _add(commands, "poll", _poll, "ask every remote, and queue a sync where one has moved (gitopsd-poll.timer)")
    _add_json(poll)

    what = "queue a sync of every repo that has a remote (gitopsd-catchall.timer)"
    catchall = _add(commands, "catchall", _catchall, what)
    _add_json(catchall)

    run = _add(commands, "run", _run, "sync one repo until none of its jobs is due (what a unit or the daemon starts)")
    run.add_argument("repo", metavar="REPO")

    notify = _add(commands, "notify", _notify, "tell people and forges what became of syncs (gitopsd-notify.service)")
    notify.add_argument("--test", action="store_true", help="send a trial message, and say who has taken it")

    _add(commands, "version", _version, "print the version")


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


# Each command imports what it needs when it is called: `gitopsd run` starts in half the time that way.


def _serve(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import serve

    return serve.serve(arguments.config, arguments.listen)


def _run(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import serve

    return serve.run(arguments.config, arguments.repo)


def _init(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import init

    return init.init(
        arguments.config,
        arguments.receivers,
        host=arguments.host,
        rotate=arguments.rotate,
        finish=arguments.finish,
    )


def _add_repo(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import add

    given = {key: getattr(arguments, key) for key in ("path", "ref", "strategy")}
    settings = {key: value for key, value in given.items() if value is not None}
    return add.add(arguments.config, arguments.url, name=arguments.name, settings=settings)


def _remove(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import remove

    return remove.remove(arguments.config, arguments.name, yes=arguments.yes)


def _check(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import check

    return check.check(arguments.config, offline=arguments.offline, as_json=arguments.json)


def _sync(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import sync

    return sync.sync(
        arguments.config,
        arguments.repos,
        everything=arguments.all,
        wait=not arguments.no_wait,
        force=arguments.force,
        as_json=arguments.json,
    )


def _status(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import status

    return status.status(arguments.config, arguments.repo, as_json=arguments.json)


def _history(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import status

    return status.history(arguments.config, arguments.repo, limit=arguments.limit, as_json=arguments.json)


def _logs(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import logs

    return logs.logs(arguments.config, arguments.target, follow=arguments.follow)


def _deliveries(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import deliveries

    return deliveries.deliveries(arguments.config, arguments.receiver, limit=arguments.limit, as_json=arguments.json)


def _replay(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import deliveries

    return deliveries.replay(arguments.config, arguments.delivery, wait=not arguments.no_wait, as_json=arguments.json)


def _receivers(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import receivers

    return receivers.receivers(arguments.config, host=arguments.host, as_json=arguments.json)


def _why(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import why

    return why.why(arguments.config, arguments.repo, arguments.revision, as_json=arguments.json)


def _hold(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import holds

    return holds.hold(arguments.config, arguments.repo, reason=arguments.reason, for_sec=arguments.for_sec)


def _resume(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import holds

    return holds.resume(arguments.config, arguments.repo, wait=not arguments.no_wait, as_json=arguments.json)


def _rollback(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import holds

    return holds.rollback(
        arguments.config,
        arguments.repo,
        to=arguments.to,
        reason=arguments.reason or "",
        wait=not arguments.no_wait,
        as_json=arguments.json,
    )


def _rescued(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import rescued

    return rescued.rescued(arguments.config, arguments.repo, as_json=arguments.json)


def _poll(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import poll

    return poll.poll(arguments.config, as_json=arguments.json)


def _catchall(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import poll

    return poll.catchall(arguments.config, as_json=arguments.json)


def _notify(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import notify

    return notify.try_targets(arguments.config) if arguments.test else notify.tell(arguments.config)


def _version(_arguments: argparse.Namespace) -> int:
    print(f"gitopsd {__version__}")
    return 0
