"""What `gitopsd check` says of policies that cannot be what they were meant to be."""

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from gitopsd.cli.places import may_read, may_write, user_called
from gitopsd.cli.policies import of_signers, of_way_back
from gitopsd.settings import Config, Health, Repo
from tests.conftest import ForNobody

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def repo(**settings: Any) -> Repo:
    return Repo(name="blog", url="x", ref="main", path=Path("/srv/blog"), **settings)


# rollback


@pytest.mark.parametrize(
    "what",
    [
        {"deploy": ("./deploy.sh",)},
        {"compose": "compose.yaml"},
        {"units": ("blog.service",)},
        {"health": Health(command=("true",))},
    ],
)
def test_a_way_back_is_for_what_can_fail_once_a_revision_is_in_place(what: dict[str, Any]) -> None:
    assert of_way_back(repo(rollback=True, **what)) is None


def test_a_way_back_from_nothing_is_of_no_use() -> None:
    assert of_way_back(repo(gate=("make", "test"))) is None
    said = of_way_back(repo(rollback=True, gate=("make", "test")))
    assert said == "rollback: nothing can fail after a revision was put in place; add deploy, compose, units or health"


# Who may sign


class Signers:
    """A file of signers in a place that everybody can get to, and what is said of it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.file = place / "etc" / "signers"
        self.file.parent.mkdir()
        self.file.write_text("me@example.org ssh-ed25519 AAAA\n")
        place.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(place, 0, 0)

    def said(self, *, verify: str = "ssh", strategy: str = "in-place", path: str = "blog") -> list[str | None]:
        config = Config(source=self.place / "gitopsd.yaml", state_dir=self.place / "state", engine=Path("/bin/true"))
        one = Repo(
            name="blog",
            url="x",
            ref="main",
            path=self.place / path,
            strategy=strategy,
            verify=verify,
            allowed_signers=str(self.file),
            keyring=str(self.file),
        )
        found = list(of_signers(config, one, in_unit=False))
        assert all(subject.endswith(f" {self.file}") for subject, _ in found)
        return [problem for _, problem in found]


@pytest.fixture
def signers(for_nobody: ForNobody) -> Signers:
    return Signers(for_nobody.place)


@pytest.mark.parametrize("verify", ["ssh", "gpg"])
@ONLY_ROOT
def test_a_file_that_root_alone_writes_is_well(signers: Signers, for_nobody: ForNobody, verify: str) -> None:
    with for_nobody.rights():
        assert signers.said(verify=verify) == [None]


def test_nobody_asks_for_the_file_of_a_repo_that_needs_no_signature(signers: Signers) -> None:
    signers.file.unlink()
    assert signers.said(verify="none") == []


def test_a_file_that_is_not_there_is_told(signers: Signers) -> None:
    signers.file.unlink()
    assert signers.said() == ["is not there"]
    signers.file.mkdir()
    assert signers.said() == ["is not a file"]


@pytest.mark.parametrize(
    ("strategy", "path", "place"),
    [
        ("in-place", "blog", "blog/etc"),
        ("release", "blog/current", "blog/.current.releases/1"),
        ("release", "blog/current", "state/mirrors/blog"),
    ],
)
def test_a_file_where_the_sync_writes_is_no_protection(signers: Signers, strategy: str, path: str, place: str) -> None:
    signers.file = signers.place / place / "signers"
    signers.file.parent.mkdir(parents=True)
    signers.file.touch()
    (problem,) = signers.said(strategy=strategy, path=path)
    assert problem
    assert problem.startswith("lies where the sync writes, so a commit could bring its own; ")


def test_a_link_is_followed_to_where_the_file_is(signers: Signers) -> None:
    inside = signers.place / "blog" / "signers"
    inside.parent.mkdir()
    signers.file.rename(inside)
    signers.file.symlink_to(inside)
    (problem,) = signers.said()
    assert problem
    assert problem.startswith("lies where the sync writes")


@ONLY_ROOT
def test_a_file_that_the_sync_cannot_read_is_told(signers: Signers, for_nobody: ForNobody) -> None:
    signers.file.chmod(0o600)
    with for_nobody.rights():
        assert signers.said() == ["cannot be read by this user, as whom the sync runs"]


@pytest.mark.parametrize("what", ["etc/signers", "etc", "."])
@ONLY_ROOT
def test_a_file_that_what_is_deployed_could_write_or_replace_is_told(
    signers: Signers, for_nobody: ForNobody, what: str
) -> None:
    place = signers.place / what
    place.chmod(0o777)
    with for_nobody.rights():
        (problem,) = signers.said()
    expected = f"{place} can be written by this user, and so by what is deployed; let it be for root alone to write"
    assert problem == expected


@ONLY_ROOT
def test_a_directory_where_nobody_can_replace_the_files_of_others_is_well(
    signers: Signers, for_nobody: ForNobody
) -> None:
    signers.file.parent.chmod(0o1777)
    with for_nobody.rights():
        assert signers.said() == [None]


# What a mode says of a user


@pytest.mark.parametrize(
    ("mode", "owner", "group", "reads", "writes"),
    [
        (0o644, "root", "root", True, False),
        (0o600, "root", "root", False, False),
        (0o640, "root", "nogroup", True, False),
        (0o660, "root", "nogroup", True, True),
        (0o606, "root", "root", True, True),
        (0o600, "nobody", "root", True, True),
        (0o466, "nobody", "root", True, False),
    ],
)
@ONLY_ROOT
def test_a_mode_is_read_for_the_user_who_is_asked_about(
    tmp_path: Path, mode: int, owner: str, group: str, reads: bool, writes: bool
) -> None:
    nobody = pwd.getpwnam("nobody")
    file = tmp_path / "file"
    file.touch()
    os.chown(file, pwd.getpwnam(owner).pw_uid, nobody.pw_gid if group == "nogroup" else 0)
    file.chmod(mode)

    assert (may_read(nobody, file), may_write(nobody, file)) == (reads, writes)
    assert (may_read(pwd.getpwuid(0), file), may_write(pwd.getpwuid(0), file)) == (True, True)


def test_a_user_has_a_name_or_a_number_and_without_one_it_is_root() -> None:
    assert user_called("") == user_called("0") == pwd.getpwuid(0)
    assert user_called(pwd.getpwuid(0).pw_name) == pwd.getpwuid(0)
    assert user_called("nobody-of-that-name") is None
    assert user_called("4294967000") is None
