"""Who has signed it: the engine beside real keys of ssh and gpg, of those who may sign and of everybody else."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.engine import MISCONFIGURED, Run
from tests.remote import Remote, git
from tests.signers import Key, Keys, Studio, agents, open_keys
from tests.strategies import Host, both_strategies

KINDS = ["ssh", "gpg"]
both_kinds = pytest.mark.parametrize("kind", KINDS)


@dataclass(frozen=True, kw_only=True)
class Signed:
    """One remote with commits of all sorts, made once: `commits` by name, each a child of the signed `base`."""

    remote: Remote
    keys: Keys
    people: Mapping[str, Key]
    base: str
    commits: Mapping[str, str]


def made(directory: Path, keys: Keys, kind: str) -> Signed:
    """What there is to refuse or to accept with keys of this kind."""
    remote = Remote.create(directory)
    other = keys.gpg if kind == "ssh" else keys.ssh
    make: Callable[[str], Key] = keys.ssh if kind == "ssh" else keys.gpg
    people = {name: make(f"{name}-{kind}") for name in ("ada", "bob", "mallory", "forge")}
    people["elsewhere"] = other(f"elsewhere-{kind}")
    if kind == "gpg":
        people |= {"expired": keys.gpg("expired", expired=True), "revoked": keys.gpg("revoked")}
    else:
        ada = people["ada"].identity
        people["expired"] = replace(people["bob"], public=people["bob"].public.replace(" ", ' valid-before="20200101" ', 1))
    studio = Studio(remote.bare, keys)
    base = studio.commit(by=people["ada"])
    commits = {name: studio.commit(base, by=key) for name, key in people.items()}
    commits["unsigned"] = studio.commit(base)
    commits["tampered"] = studio.tamper(commits["ada"])
    merges = {"of signed": ("ada", "bob"), "of unsigned": ("ada", "unsigned"), "of forged": ("ada", "mallory")}
    for name, parents in merges.items():
        commits[f"merge {name}"] = studio.commit(*(commits[each] for each in parents), by=people["forge"])
    commits["merge of merges"] = studio.commit(commits["merge of signed"], commits["bob"], by=people["forge"])
    commits["merge of merges of unsigned"] = studio.commit(commits["merge of unsigned"], commits["bob"], by=people["forge"])
    commits["merge of the forge's own"] = studio.commit(commits["ada"], commits["forge"], by=people["forge"])
    commits["signed on top of unsigned"] = studio.commit(commits["unsigned"], by=people["ada"])
    return Signed(remote=remote, keys=keys, people=people, base=base, commits=commits)


@pytest.fixture(scope="session")
def all_signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Signed]]:
    done: dict[str, Signed] = {}
    directory = tmp_path_factory.mktemp("signed")
    with open_keys(directory / "keys") as keys:

        def signed_with(kind: str) -> Signed:
            if kind not in done:
                done[kind] = made(directory / kind, keys, kind)
            return done[kind]

        yield signed_with


@dataclass(kw_only=True)
class Judge(Host):
    """A host that asks who has signed it; some may."""

    signed: Signed
    kind: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.home.mkdir(mode=0o700)
        self.environment |= {
            "GITOPSD_VERIFY": self.kind,
            "GITOPSD_ALLOWED_SIGNERS" if self.kind == "ssh" else "GITOPSD_KEYRING": str(self.signers),
            "TMPDIR": str(self.directory / "tmp"),
            "GNUPGHOME": str(self.home),
        }
        (self.directory / "tmp").mkdir()
        self.allow("ada", "bob", "forge")

    @property
    def signers(self) -> Path:
        return self.directory / "signers"

    @property
    def home(self) -> Path:
        """Where gpg of the sync's user has its keys."""
        return self.directory / "own"

    @property
    def studio(self) -> Studio:
        return Studio(self.remote.bare, self.signed.keys)

    def allow(self, *names: str) -> None:
        self.signers.write_text("".join(self.signed.people[name].public for name in names))

    def identity(self, name: str) -> str:
        """What the engine calls somebody."""
        return self.signed.people[name].identity

    def show(self, name: str) -> str:
        """Let the branch be at one of the commits."""
        revision = self.signed.base if name == "base" else self.signed.commits[name]
        self.studio.point(f"refs/heads/{self.remote.branch}", revision)
        return revision

    def accepts(self, name: str, **more: str | None) -> Run:
        run = self.deployed(self.show(name), **more)
        self.leaves_nothing()
        return run

    def refuses(self, name: str, reason: str, **more: str | None) -> Run:
        revision = self.show(name)
        run = self.in_vain("not signed as it has to be: ", **more)
        assert revision[:12] in run["reason"]
        assert reason in run["reason"], run["reason"]
        self.leaves_nothing()
        return run

    def leaves_nothing(self) -> None:
        assert not list((self.directory / "tmp").iterdir())
        assert not list(self.home.iterdir())


@pytest.fixture
def strategy() -> str:
    return "in-place"


@pytest.fixture
def kind() -> str:
    return "ssh"


@pytest.fixture
def judge(tmp_path: Path, all_signed: Callable[[str], Signed], strategy: str, kind: str) -> Judge:
    signed = all_signed(kind)
    bare = shutil.copytree(signed.remote.bare, tmp_path / "remote.git")
    remote = Remote(bare=bare, work=signed.remote.work, branch=signed.remote.branch)
    return Judge(directory=tmp_path, remote=remote, strategy=strategy, kind=kind, signed=signed)


@pytest.fixture
def host(judge: Judge) -> Judge:
    """One where the base is deployed."""
    judge.accepts("base")
    return judge


@pytest.fixture(autouse=True)
def no_agent_is_left(all_signed: Callable[[str], Signed], kind: str) -> Iterator[None]:
    all_signed(kind)
    before = agents()
    yield
    assert agents() <= before


# Commits


@both_strategies
@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("ssh", "unsigned", "it has no signature"),
        ("ssh", "mallory", "its key is none of the allowed signers"),
        ("ssh", "elsewhere", "it has no signature"),
        ("ssh", "tampered", "it was changed after it had been signed"),
        ("ssh", "expired", "its key has expired"),
        ("gpg", "unsigned", "it has no signature"),
        ("gpg", "mallory", "its key is not in the keyring"),
        ("gpg", "elsewhere", "its signature is of another kind"),
        ("gpg", "tampered", "it was changed after it had been signed"),
        ("gpg", "expired", "its key has expired"),
        ("gpg", "revoked", "its key was revoked"),
    ],
)
def test_a_commit_is_refused_that_nobody_has_signed_who_may(host: Judge, name: str, reason: str) -> None:
    host.allow("ada", *{"expired", "revoked"} & {name})
    host.refuses(name, reason)
    host.accepts("ada")
