"""Whether the user and the sandbox of a sync let it write where a repo's checkout is to be."""

import os
import pwd
from collections.abc import Sequence
from pathlib import Path

from gitopsd import runner
from gitopsd.model import Repo

# As the engine does it. Without braces: systemd-run would take those for its own.
# And in one line: systemd 252 takes the second line of a word for one of a unit file.
_GIT = (
    'export GIT_TERMINAL_PROMPT=0 GIT_SSH_COMMAND="ssh -oBatchMode=yes"; '
    "key=$CREDENTIALS_DIRECTORY/ssh-key; "
    '[ ! -r "$key" ] || GIT_SSH_COMMAND="$GIT_SSH_COMMAND -oIdentitiesOnly=yes -i $key"; '
    'exec "$@"'
)


def problem_for_unit(repo: Repo) -> str:
    """What keeps the unit of `repo` from writing at its path; "" if nothing does. Raises GitopsdError."""
    unit = runner.unit_of(repo.name)
    rights = runner.rights_of(unit)
    edit = f"systemctl edit '{unit}'"
    try:
        user = pwd.getpwuid(int(rights.user)) if rights.user.isdecimal() else pwd.getpwnam(rights.user or "root")
    except KeyError:
        return f"its sync runs as {rights.user}, who does not exist; {edit}: User="
    if rights.hides(repo.path):
        return f"the sandbox of its sync hides homes; {edit}: ProtectHome=no"
    if not rights.lets_write(repo.path):
        return f"the sandbox of its sync does not let it write there; {edit}: ReadWritePaths={repo.path}"
    nearest = next(each for each in (repo.path, *repo.path.parents) if os.path.lexists(each))
    if nearest != repo.path:
        make = f"install -d -o {user.pw_name} {repo.path}"
        return "" if _may_write(user, nearest) else f"{user.pw_name} cannot make it; run: {make}"
    owner = nearest.stat().st_uid
    if user.pw_uid in (0, owner):
        return ""
    remedy = f"chown -R {user.pw_name} {nearest}" + (f", or {edit}: User={_name_of(owner)}" if owner else "")
    return f"belongs to {_name_of(owner)}, and its sync runs as {user.pw_name}; {remedy}"


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


def _may_write(user: pwd.struct_passwd, directory: Path) -> bool:
    found = directory.stat()
    if user.pw_uid in (0, found.st_uid):
        return True
    in_group = found.st_gid in os.getgrouplist(user.pw_name, user.pw_gid)
    return bool(found.st_mode & (0o022 if in_group else 0o002))


def _name_of(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"user {user_id}"
