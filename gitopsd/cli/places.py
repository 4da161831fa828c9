"""Whether the user and the sandbox of a sync let it write where a repo's checkout is to be."""

import os
import pwd
from collections.abc import Sequence
from pathlib import Path

from gitopsd import runner
from gitopsd.config import releases_of
from gitopsd.settings import Config, Repo

# As the engine does it. Without braces: systemd-run would take those for its own.
# And in one line: systemd 252 takes the second line of a word for one of a unit file.
_GIT = (
    'export GIT_TERMINAL_PROMPT=0 GIT_SSH_COMMAND="ssh -oBatchMode=yes"; '
    "key=$CREDENTIALS_DIRECTORY/ssh-key; "
    '[ ! -r "$key" ] || GIT_SSH_COMMAND="$GIT_SSH_COMMAND -oIdentitiesOnly=yes -i $key"; '
    'exec "$@"'
)


def directory_of(repo: Repo) -> Path:
    """Where the sync of `repo` has to be able to write: the checkout, or around the symlink where that is one."""
    return repo.path.parent if repo.strategy == "release" else repo.path


def mirror_of(config: Config, repo: Repo) -> Path:
    """The bare repository that the releases of `repo` are made from."""
    return config.state_dir / "mirrors" / repo.name


def is_empty(path: Path) -> bool:
    """Whether `path` is a directory with nothing in it, and no other name of one."""
    try:
        return not path.is_symlink() and not any(path.iterdir())
    except OSError:
        return False


def leads_to_release(path: Path) -> bool:
    """Whether `path` is a symlink such as the engine makes."""
    return path.is_symlink() and str(path.readlink()).startswith(f"{releases_of(path).name}/")


def problem_for_unit(config: Config, repo: Repo) -> str:
    """What keeps the unit of `repo` from writing at its path; "" if nothing does. Raises GitopsdError."""
    unit = runner.unit_of(repo.name)
    rights = runner.rights_of(unit)
    edit = f"systemctl edit '{unit}'"
    user = user_called(rights.user)
    if user is None:
        return f"its sync runs as {rights.user}, who does not exist; {edit}: User="
    directory, is_release = directory_of(repo), repo.strategy == "release"
    if rights.hides(directory):
        return f"the sandbox of its sync hides homes; {edit}: ProtectHome=no"
    for place in (directory, *([mirror_of(config, repo)] if is_release else [])):
        if not rights.lets_write(place):
            where = "there" if place == repo.path else f"in {place}"
            return f"the sandbox of its sync does not let it write {where}; {edit}: ReadWritePaths={place}"
    nearest = next(each for each in (directory, *directory.parents) if os.path.lexists(each))
    if nearest != directory:
        make = f"install -d -o {user.pw_name} {directory}"
        what = "it" if directory == repo.path else str(directory)
        return "" if may_write(user, nearest) else f"{user.pw_name} cannot make {what}; run: {make}"
    return _problem_of_releases(repo, user, edit) if is_release else _problem_of_owner(nearest, user, edit)


def _problem_of_owner(directory: Path, user: pwd.struct_passwd, edit: str) -> str:
    owner = directory.stat().st_uid
    if user.pw_uid in (0, owner):
        return ""
    remedy = f"chown -R {user.pw_name} {directory}" + (f", or {edit}: User={_name_of(owner)}" if owner else "")
    return f"belongs to {_name_of(owner)}, and its sync runs as {user.pw_name}; {remedy}"


def _problem_of_releases(repo: Repo, user: pwd.struct_passwd, edit: str) -> str:
    """What is wrong with the directory of the symlink, which may be others' as well, or with that of the trees."""
    directory, trees = directory_of(repo), releases_of(repo.path)
    if os.path.lexists(trees) and (problem := _problem_of_owner(trees, user, edit)):
        return f"{trees} {problem}"
    if may_write(user, directory):
        return ""
    remedy = f"chown {user.pw_name} {directory}, or take the path {directory / repo.name / 'current'}"
    return f"{user.pw_name} cannot write in {directory}; run: {remedy}"


def as_unit(repo: Repo, argv: Sequence[str]) -> list[str]:
    """`argv` as the unit of `repo` would run it, for root: its user, its home, its key. Raises GitopsdError."""
    rights = runner.rights_of(runner.unit_of(repo.name))
    settings = [f"--property=User={rights.user}"] if rights.user else []
    settings += ["--property=ProtectHome=yes"] if rights.hides_homes else []
    settings += [f"--property=LoadCredential=ssh-key:{rights.key}"] if rights.key and rights.key.exists() else []
    language = "--setenv=LC_ALL=C"
    return [
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        language,
        *settings,
        "sh",
        "-c",
        _GIT,
        "sh",
        *argv,
    ]


def user_called(name: str) -> pwd.struct_passwd | None:
    """The user that a unit names: a name, a number, or "" for root. None if there is none."""
    try:
        return pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name or "root")
    except KeyError:
        return None


def may_read(user: pwd.struct_passwd, path: Path) -> bool:
    """Whether the mode of `path` lets `user` read it. Raises OSError if there is no telling."""
    return _lets(user, path, 0o444)


def may_write(user: pwd.struct_passwd, path: Path) -> bool:
    """Whether the mode of `path` lets `user` write it. Raises OSError if there is no telling."""
    return _lets(user, path, 0o222)


def _lets(user: pwd.struct_passwd, path: Path, bits: int) -> bool:
    found = path.stat()
    if user.pw_uid == 0:
        return True
    if user.pw_uid == found.st_uid:
        return bool(found.st_mode & bits & 0o700)
    in_group = found.st_gid in os.getgrouplist(user.pw_name, user.pw_gid)
    return bool(found.st_mode & bits & (0o077 if in_group else 0o007))


def _name_of(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"user {user_id}"
