"""What each command calls, with its arguments.

Each imports what it needs when it is called: `gitopsd run` starts in half the time that way.
"""

import argparse

from gitopsd import __version__


def serve(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import serve

    return serve.serve(arguments.config, arguments.listen)


def run(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import serve

    return serve.run(arguments.config, arguments.repo)


def init(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import init

    return init.init(
        arguments.config,
        arguments.receivers,
        host=arguments.host,
        rotate=arguments.rotate,
        finish=arguments.finish,
    )


def add_repo(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import add

    given = {key: getattr(arguments, key) for key in ("path", "ref", "strategy")}
    settings = {key: value for key, value in given.items() if value is not None}
    return add.add(arguments.config, arguments.url, name=arguments.name, settings=settings)


def remove(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import remove

    return remove.remove(arguments.config, arguments.name, yes=arguments.yes)


def check(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import check

    return check.check(arguments.config, offline=arguments.offline, as_json=arguments.json)


def sync(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import sync

    return sync.sync(
        arguments.config,
        arguments.repos,
        everything=arguments.all,
        wait=not arguments.no_wait,
        force=arguments.force,
        as_json=arguments.json,
    )


def status(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import status

    return status.status(arguments.config, arguments.repo, as_json=arguments.json)


def history(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import status

    return status.history(arguments.config, arguments.repo, limit=arguments.limit, as_json=arguments.json)


def logs(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import logs

    return logs.logs(arguments.config, arguments.target, follow=arguments.follow)


def deliveries(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import deliveries

    return deliveries.deliveries(arguments.config, arguments.receiver, limit=arguments.limit, as_json=arguments.json)


def replay(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import deliveries

    return deliveries.replay(arguments.config, arguments.delivery, wait=not arguments.no_wait, as_json=arguments.json)


def receivers(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import receivers

    return receivers.receivers(arguments.config, host=arguments.host, as_json=arguments.json)


def why(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import why

    return why.why(arguments.config, arguments.repo, arguments.revision, as_json=arguments.json)


def hold(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import holds

    return holds.hold(arguments.config, arguments.repo, reason=arguments.reason, for_sec=arguments.for_sec)


def resume(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import holds

    return holds.resume(arguments.config, arguments.repo, wait=not arguments.no_wait, as_json=arguments.json)


def rollback(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import holds

    return holds.rollback(
        arguments.config,
        arguments.repo,
        to=arguments.to,
        reason=arguments.reason or "",
        wait=not arguments.no_wait,
        as_json=arguments.json,
    )


def rescued(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import rescued

    return rescued.rescued(arguments.config, arguments.repo, as_json=arguments.json)


def poll(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import poll

    return poll.poll(arguments.config, as_json=arguments.json)


def catchall(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import poll

    return poll.catchall(arguments.config, as_json=arguments.json)


def notify(arguments: argparse.Namespace) -> int:
    from gitopsd.cli import notify

    return notify.try_targets(arguments.config) if arguments.test else notify.tell(arguments.config)


def version(_arguments: argparse.Namespace) -> int:
    print(f"gitopsd {__version__}")
    return 0
