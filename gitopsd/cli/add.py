"""`gitopsd add`: a repo's file in conf.d, its directory, its deploy key, and a try of its remote."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gitopsd import config as configuration
from gitopsd import files, lock, poll, runner
from gitopsd.cli import check, keys, places, problems, steps, terminal
from gitopsd.cli.exits import EXIT_BUSY, EXIT_DONE
from gitopsd.discovery import NAME
from gitopsd.errors import GitopsdError
from gitopsd.poll import Tip
from gitopsd.references import called, follows_tags
from gitopsd.remotes import normalise_url
from gitopsd.settings import Config, Repo

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
    if settings.get("strategy") == "none":
        raise GitopsdError("--strategy none: such a repo has no URL; write it into the configuration by hand")
    settings = _tidy({"url": url, "path": str(_place_for(name, settings)), **settings})
    host = keys.host_of(url)
    _check_place(Path(settings["path"]), is_symlink=settings.get("strategy") == "release")

    repo, file = _configure(config_path, config, name, settings)
    if in_unit:
        _make_directory(repo)
    key = _prepare(repo, host) if in_unit and host else None
    draft = {} if "ref" in settings else _without_branch(repo, file)
    tip, branch = _ask(config, repo, wants_branch=bool(draft), in_unit=in_unit)
    if branch:
        tip = Tip(repo=_follow(config_path, repo.name, file, {**draft, "ref": branch}))
    if in_unit:
        runner.reload_daemon()
    return _report(config, tip, file, key, is_open=bool(draft) and not branch, in_unit=in_unit)


def _name_of(url: str) -> str:
    """The last part of `url`, as the name of a repo. Raises GitopsdError."""
    name = _plain_name(url)
    if not NAME.fullmatch(name):
        raise GitopsdError(f"no name can be made of {url}; give one: --name NAME")
    return name


def _plain_name(url: str) -> str:
    last = re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("._-")


def _place_for(name: str, settings: dict[str, str]) -> Path:
    """Where it is, unless somebody says otherwise."""
    return _CHECKOUTS / name / "current" if settings.get("strategy") == "release" else _CHECKOUTS / name


def _tidy(settings: dict[str, str]) -> dict[str, str]:
    """The settings as they are compared and written. Raises GitopsdError for a URL that means something here alone."""
    url = settings["url"]
    if "://" not in url and not url.startswith("/") and keys.host_of(url) is None:
        raise GitopsdError(f"{url} is relative to this directory; give the whole URL, or an absolute path")
    ref = settings.get("ref", "")
    branch = ref.removeprefix("refs/heads/")
    # Where that were a pattern of tags, the configuration says what is wrong with it.
    tidy = {"path": os.path.normpath(settings["path"]), "ref": ref if follows_tags(branch) else branch}
    return {key: tidy.get(key) or value for key, value in settings.items()}


def _check_place(path: Path, *, is_symlink: bool) -> None:
    """Raises GitopsdError if a directory can never be at `path`, or around it where it is to be a symlink."""
    for each in path.parents if is_symlink else (path, *path.parents):
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
        if wanted not in (None, is_set) and not (key == "path" and wanted == str(_place_for(repo.name, settings))):
            raise GitopsdError(f"{repo.name} is configured already, with {key}: {is_set}; change that in {file}")
    return repo


def _without_branch(repo: Repo, file: Path) -> dict[str, str]:
    """What is set in `file`, if it is still as we have written it before the remote could be asked; else nothing."""
    settings = {"url": repo.url, "path": str(repo.path)}
    text = file.read_text(encoding="utf-8")
    drafts = (settings, {**settings, "strategy": repo.strategy})
    return next((each for each in drafts if text == configuration.dump_repo(repo.name, each)), {})


def _follow(config_path: Path, name: str, file: Path, settings: dict[str, str]) -> Repo:
    """Name the remote's own branch in the file of the repo."""
    text = configuration.dump_repo(name, settings)
    found = configuration.load(config_path, (file, text)).repos[name]
    files.write(file, text, mode=0o644, replace=True)
    return found


# ------------------------------------------------------------------------------------------- its remote


def _ask(config: Config, repo: Repo, *, wants_branch: bool, in_unit: bool) -> tuple[Tip, str]:
    """What the remote says, and the branch that it takes for its own. Who lets nobody in is asked no second time."""
    with terminal.waiting(terminal.console(), "asking the remote"):
        (tip,) = check.ask(config, [repo], in_unit=in_unit)
        if not wants_branch or not _has_answered(tip):
            return tip, ""
        secrets = configuration.secret_names(config)
        run_as = (places.as_unit,) if in_unit else ()
        return tip, poll.default_branch(repo, secrets, *run_as)


def _has_answered(tip: Tip) -> bool:
    return not tip.problem or tip.problem == poll.nothing_to_follow(tip.repo)


# ------------------------------------------------------------------------------------------- its place and its key


class _Key(NamedTuple):
    """The deploy key of a repo, and what is left to do about the host key of its remote, or ""."""

    was_made: bool
    about_host: str


def _prepare(repo: Repo, host: keys.SshHost) -> _Key:
    """What a unit needs to reach its remote over ssh."""
    was_made = keys.make(repo.name)
    return _Key(was_made, "" if keys.is_known(host) else keys.get_to_know(host))


def _make_directory(repo: Repo) -> None:
    """The directory that the sync writes in, for its user, where that is what its sandbox lets it write."""
    rights, directory = runner.rights_of(runner.unit_of(repo.name)), places.directory_of(repo)
    if os.path.lexists(directory) or rights.hides(directory) or not rights.lets_write(directory):
        return  # `check` says what is wrong with it, if anything is
    user = places.user_called(rights.user)
    if user is None:
        return
    directory.mkdir(mode=0o755, parents=True)
    os.chown(directory, user.pw_uid, user.pw_gid, follow_symlinks=False)  # above it others may write


# ------------------------------------------------------------------------------------------- what is printed


def _report(config: Config, tip: Tip, file: Path, key: _Key | None, *, is_open: bool, in_unit: bool) -> int:
    """`is_open`: whether the branch is not yet known."""
    out, repo = terminal.console(), tip.repo
    until = " (until the remote says which branch is its own)" if is_open else ""
    followed = called(repo.ref).removeprefix("refs/heads/")
    print(f"{repo.name}  follows {followed}{until} of {repo.url} at {repo.path} ({file})")
    for line in _key_lines(repo, key, is_let_in=_has_answered(tip)) if key else ():
        print(line)
    findings = [check.of_path(config, repo, in_unit=in_unit), check.of_tip(tip, in_unit=in_unit)]
    for finding in findings:
        check.show(out, finding)
    bad = [finding.problem for finding in findings if finding.problem]
    print("\nNext:")
    # What a person has changed is left alone, so not before the branch is in it.
    edit = [] if repo.deploy or is_open else [(f"editor {file}", "say what to run in it: deploy: [./deploy.sh]")]
    for line in steps.lines([*edit, *_steps(config, repo, in_unit=in_unit), _last_step(repo, key, bad)]):
        print(line)
    return EXIT_BUSY if bad else EXIT_DONE


def _key_lines(repo: Repo, key: _Key, *, is_let_in: bool) -> Iterator[str]:
    state = f"deploy key {keys.path_of(repo.name)} ({'made just now' if key.was_made else 'as it was'})"
    if is_let_in:
        yield state
    else:
        yield f"{state}:"
        yield f"  {keys.public_half(repo.name)}"
        yield f"  paste it at {keys.where_to_paste(repo.url)} (read access is enough)"
    if key.about_host:
        yield key.about_host


def _steps(config: Config, repo: Repo, *, in_unit: bool) -> Iterator[tuple[str, str]]:
    if all(receiver.repos is not None and repo.name not in receiver.repos for receiver in config.receivers.values()):
        yield f"editor {config.source}", f"name {repo.name} under repos: of its receiver, which may trigger others only"
    if in_unit and any(map(problems.of_credential, _first_secrets(config))):
        yield "gitopsd init", "the secret for the webhook"
    if in_unit and runner.unit_states([runner.SOCKET_UNIT])[runner.SOCKET_UNIT].active != "active":
        yield f"systemctl enable --now {runner.SOCKET_UNIT}", "from then on deliveries are taken"
    if not in_unit and not lock.is_free(config.state_dir, lock.DAEMON):
        yield "kill -HUP PID", "of the gitopsd serve that runs: it takes the repo up"


def _last_step(repo: Repo, key: _Key | None, bad: Sequence[str]) -> tuple[str, str]:
    if not bad:
        return f"git push, or gitopsd sync {repo.name}", ""
    name = "" if repo.name == _plain_name(repo.url) else f" --name {repo.name}"
    is_key = key and all("Permission denied" in problem for problem in bad)
    once = "once the deploy key above is pasted" if is_key else "once that is mended"
    return f"gitopsd add {shlex.quote(repo.url)}{name}", f"again, {once}; or: gitopsd remove {repo.name}"


def _first_secrets(config: Config) -> list[str]:
    return [receiver.secrets[0] for receiver in config.receivers.values()]
