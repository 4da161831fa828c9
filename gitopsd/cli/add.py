"""`gitopsd add`: a repo's file in conf.d, its directory, its deploy key, and a try of its remote."""

import os
import pwd
import re
from collections.abc import Sequence
from pathlib import Path

from gitopsd import config as configuration
from gitopsd import poll, runner
from gitopsd.cli import check, files, keys, places, problems, terminal
from gitopsd.cli.exits import EXIT_BUSY, EXIT_DONE
from gitopsd.discovery import NAME
from gitopsd.errors import GitopsdError
from gitopsd.model import Config, Repo
from gitopsd.routing import normalise_url

_CHECKOUTS = Path("/srv")
_SETTINGS = ("url", "path", "ref", "strategy")


def add(config_path: Path, url: str, *, name: str | None, settings: dict[str, str]) -> int:
    """Configure the repo at `url` and see that it can be synced; `settings` as in its file, without those not given.

    What is done already is left as it is, so it can be called again once a key was pasted, say.
    """
    os.umask(0o022)  # root's may be 077, and the users of the services have to read what is made here
    name = name or _name_of(url)
    config = configuration.load(config_path)
    in_unit = runner.uses_units(config)
    if in_unit and os.geteuid() != 0:
        raise GitopsdError(f"only root may change the configuration; run: sudo gitopsd add {url}")
    settings = _tidy({"url": url, "path": str(_CHECKOUTS / name), **settings})
    host = keys.host_of(url)
    _check_place(Path(settings["path"]))

    repo, file = _configure(config_path, config, name, settings)
    left = _prepare(repo, host) if in_unit else []
    if "ref" not in settings and (branch := _default_branch(config, repo, in_unit=in_unit)):
        repo = _follow(config_path, repo, file, branch)
    if in_unit:
        runner.reload_daemon()
    return _report(config, repo, file, left, in_unit=in_unit)


def _name_of(url: str) -> str:
    """The last part of `url`, as the name of a repo. Raises GitopsdError."""
    last = re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")
    name = re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("._-")
    if not NAME.fullmatch(name):
        raise GitopsdError(f"no name can be made of {url}; give one: --name NAME")
    return name


def _tidy(settings: dict[str, str]) -> dict[str, str]:
    """The settings as they are compared and written. Raises GitopsdError for a URL that means something here alone."""
    url = settings["url"]
    if "://" not in url and not url.startswith("/") and keys.host_of(url) is None:
        raise GitopsdError(f"{url} is relative to this directory; give the whole URL, or an absolute path")
    tidy = {"path": os.path.normpath(settings["path"]), "ref": settings.get("ref", "").removeprefix("refs/heads/")}
    return {key: tidy.get(key) or value for key, value in settings.items()}


def _check_place(path: Path) -> None:
    """Raises GitopsdError if a directory can never be at `path`."""
    for each in (path, *path.parents):
        if os.path.lexists(each) and not os.path.isdir(each):
            raise GitopsdError(f"{each} is not a directory; give another place: --path PATH")


# ------------------------------------------------------------------------------------------- its file


def _configure(config_path: Path, config: Config, name: str, settings: dict[str, str]) -> tuple[Repo, Path]:
    """The repo and its file, which is written if it is not there. Raises GitopsdError if the name is another's."""
    file = configuration.part_of(config_path, name)
    if name in config.repos:
        found, _ = configuration.file_of(config_path, name)
        return _same(config.repos[name], settings, found or file), found or file
    text = configuration.dump_repo(name, settings)
    repo = configuration.load(config_path, (file, text)).repos[name]
    file.parent.mkdir(exist_ok=True)
    try:
        files.write(file, text, mode=0o644)
    except FileExistsError as error:
        raise GitopsdError(
            f"{file} is there, and names no repo '{name}'; move it away, or give another --name"
        ) from error
    return repo, file


def _same(repo: Repo, settings: dict[str, str], file: Path) -> Repo:
    """`repo`, if that is what was asked for. What was not asked for stays as the operator has set it."""
    if normalise_url(repo.url) != normalise_url(settings["url"]):
        raise GitopsdError(f"the name '{repo.name}' is taken by {repo.url} ({file}); give another: --name NAME")
    for key in _SETTINGS:
        is_set, wanted = str(getattr(repo, key)), settings.get(key)
        if wanted not in (None, is_set) and not (key == "path" and wanted == str(_CHECKOUTS / repo.name)):
            raise GitopsdError(f"{repo.name} is configured already, with {key}: {is_set}; change that in {file}")
    return repo


def _default_branch(config: Config, repo: Repo, *, in_unit: bool) -> str:
    secrets = {name for receiver in config.receivers.values() for name in receiver.secrets}
    with terminal.waiting(terminal.console(), "asking the remote"):
        return poll.default_branch(repo, secrets, places.as_unit) if in_unit else poll.default_branch(repo, secrets)


def _follow(config_path: Path, repo: Repo, file: Path, branch: str) -> Repo:
    """Name the remote's own branch, if the file is still as we have written it when that could not be asked."""
    settings = {"url": repo.url, "path": str(repo.path)}
    for each in (settings, {**settings, "strategy": repo.strategy}):
        if file.read_text(encoding="utf-8") == configuration.dump_repo(repo.name, each):
            text = configuration.dump_repo(repo.name, {**each, "ref": branch})
            found = configuration.load(config_path, (file, text)).repos[repo.name]
            files.write(file, text, mode=0o644, replace=True)
            return found
    return repo


# ------------------------------------------------------------------------------------------- its place and its key


def _prepare(repo: Repo, host: keys.SshHost | None) -> list[str]:
    """What a unit needs to sync it; the lines on what is left for a person to do."""
    _make_directory(repo)
    if host is None:
        return []
    was_made = keys.make(repo.name)
    left = [
        f"deploy key {keys.path_of(repo.name)} ({'made just now' if was_made else 'as it was'}), to be read from only:",
        f"  {keys.public_half(repo.name)}",
        f"  paste it at {keys.where_to_paste(repo.url)}",
    ]
    return [*left, *filter(None, ["" if keys.is_known(host) else keys.get_to_know(host)])]


def _make_directory(repo: Repo) -> None:
    """The checkout's directory for the user of its sync, where that is what its sandbox lets it write."""
    rights = runner.rights_of(runner.unit_of(repo.name))
    if os.path.lexists(repo.path) or rights.hides(repo.path) or not rights.lets_write(repo.path):
        return  # `check` says what is wrong with it, if anything is
    try:
        user = pwd.getpwnam(rights.user or "root")
    except KeyError:
        return
    repo.path.mkdir(mode=0o755, parents=True)
    os.chown(repo.path, user.pw_uid, user.pw_gid, follow_symlinks=False)  # above it others may write


# ------------------------------------------------------------------------------------------- what is printed


def _report(config: Config, repo: Repo, file: Path, left: Sequence[str], *, in_unit: bool) -> int:
    out = terminal.console()
    print(f"{repo.name}  follows {repo.ref} of {repo.url} at {repo.path} ({file})")
    for line in left:
        print(line)
    with terminal.waiting(out, "asking the remote"):
        findings = check.of_repo(config, repo, in_unit=in_unit)
    for finding in findings:
        check.show(out, finding)
    print("\nNext:")
    if any(finding.problem for finding in findings):
        print(f"  gitopsd add {repo.url} --name {repo.name}      # again, once that is mended")
    if in_unit and any(map(problems.of_credential, _first_secrets(config))):
        print("  gitopsd init                              # the secret for the webhook")
    if in_unit and runner.unit_states([runner.SOCKET_UNIT])[runner.SOCKET_UNIT].active != "active":
        print(f"  systemctl enable --now {runner.SOCKET_UNIT}     # from then on deliveries are taken")
    print(f"  git push, or gitopsd sync {repo.name}")
    return EXIT_BUSY if any(finding.problem for finding in findings) else EXIT_DONE


def _first_secrets(config: Config) -> list[str]:
    return [receiver.secrets[0] for receiver in config.receivers.values()]
