"""Who has signed it: the engine beside real keys of ssh and gpg, of those who may sign and of everybody else."""

import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.engine import DEPLOY_FAILED, MISCONFIGURED, REFUSED, Run
from tests.remote import Remote
from tests.signers import Key, Keys, Studio, agents, open_keys
from tests.strategies import Host, both_strategies, path_without

both_kinds = pytest.mark.parametrize("kind", ["ssh", "gpg"])
both_of_both = pytest.mark.parametrize(("strategy", "kind"), [("in-place", "ssh"), ("release", "gpg")])
Person = Callable[[str], Key]


@dataclass(frozen=True, kw_only=True)
class Signed:
    """One remote with commits of all sorts, made once: `commits` by name, each a descendant of the signed `base`."""

    remote: Remote
    keys: Keys
    people: Mapping[str, Key]
    commits: Mapping[str, str]


def people_with(keys: Keys, kind: str) -> dict[str, Key]:
    """ada, bob and the forge may sign as a rule; the others never, or no longer."""
    make: Person = keys.ssh if kind == "ssh" else keys.gpg
    other: Person = keys.gpg if kind == "ssh" else keys.ssh
    people = {name: make(f"{name}-{kind}") for name in ("ada", "bob", "mallory", "forge")}
    people["elsewhere"] = other(f"elsewhere-{kind}")
    if kind == "gpg":
        return people | {"expired": keys.gpg("expired", expired=True), "revoked": keys.gpg("revoked")}
    bob = people["bob"]
    return people | {"expired": replace(bob, public=bob.public.replace(" ", ' valid-before="20200101" ', 1))}


def make_signed(directory: Path, keys: Keys, kind: str) -> Signed:
    """What there is to refuse and to accept with keys of this kind."""
    remote = Remote.create(directory)
    studio, people = Studio(remote.bare, keys), people_with(keys, kind)
    base = studio.commit(by=people["ada"])
    commits = {"base": base, **{name: studio.commit(base, by=key) for name, key in people.items()}}
    commits["unsigned"] = studio.commit(base)
    commits["tampered"] = studio.tamper(commits["ada"])
    commits["on top of unsigned"] = studio.commit(commits["unsigned"], by=people["ada"])
    merges = {
        "merge of signed": ("ada", "bob"),
        "merge of unsigned": ("ada", "unsigned"),
        "merge of mallory": ("mallory", "bob"),
        "merge of the forge": ("ada", "forge"),
        "merge of merges": ("merge of signed", "on top of unsigned"),
        "merge of merges of unsigned": ("merge of signed", "merge of unsigned"),
    }
    for name, parents in merges.items():
        commits[name] = studio.commit(*(commits[each] for each in parents), by=people["forge"])
    if kind == "gpg":
        people["revoked"] = replace(people["revoked"], public=keys.revoked(people["revoked"]))
    return Signed(remote=remote, keys=keys, people=people, commits=commits)


@pytest.fixture(scope="session")
def signed_with(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Signed]]:
    for program in ("gpg", "ssh-keygen"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    done: dict[str, Signed] = {}
    directory = tmp_path_factory.mktemp("signed")
    with open_keys(directory / "keys") as keys:

        def signed_with(kind: str) -> Signed:
            if kind not in done:
                done[kind] = make_signed(directory / kind, keys, kind)
            return done[kind]

        yield signed_with


@dataclass(kw_only=True)
class Judge(Host):
    """A host that asks who has signed it; ada, bob and the forge may."""

    signed: Signed
    kind: str

    def __post_init__(self) -> None:
        super().__post_init__()
        for place in (self.temporary, self.own_keys):
            place.mkdir(mode=0o700)
        gate = ["sh", "-c", 'echo "$GITOPSD_NEW_REVISION" >>"$1"', "gate", str(self.directory / "gates")]
        self.environment |= {
            "GITOPSD_VERIFY": self.kind,
            "GITOPSD_ALLOWED_SIGNERS" if self.kind == "ssh" else "GITOPSD_KEYRING": str(self.signers),
            "GITOPSD_GATE": shlex.join(gate),
            "GNUPGHOME": str(self.own_keys),
            "TMPDIR": str(self.temporary),
        }
        self.allow("ada", "bob", "forge")

    @property
    def signers(self) -> Path:
        return self.directory / "signers"

    @property
    def own_keys(self) -> Path:
        """Where the gpg of the sync's user has its keys."""
        return self.directory / "own-keys"

    @property
    def temporary(self) -> Path:
        return self.directory / "tmp"

    @property
    def gates(self) -> list[str]:
        """The revisions that went through the gate."""
        file = self.directory / "gates"
        return file.read_text().split() if file.exists() else []

    @property
    def studio(self) -> Studio:
        return Studio(self.remote.bare, self.signed.keys)

    def allow(self, *names: str) -> None:
        self.signers.write_text("".join(self.signed.people[name].public for name in names))

    def key(self, name: str) -> Key:
        return self.signed.people[name]

    def commit(self, name: str) -> str:
        return self.signed.commits[name]

    def show(self, name: str) -> str:
        """Let the branch be at one of the commits."""
        self.studio.point(f"refs/heads/{self.remote.branch}", self.commit(name))
        return self.commit(name)

    def accepts(self, name: str, **more: str | None) -> Run:
        run = self.deployed(self.show(name), **more)
        assert self.gates[-1] == self.commit(name)
        self.leaves_nothing()
        return run

    def refuses(self, name: str, reason: str, **more: str | None) -> Run:
        return self.refuses_this(f"commit {self.show(name)[:12]}", reason, **more)

    def refuses_this(self, what: str, reason: str, **more: str | None) -> Run:
        gates, live_before = self.gates, self.path.exists()
        run = self.in_vain(f"not signed as it has to be: {what}", code=REFUSED, **more)
        assert reason in run["reason"], run["reason"]
        assert self.gates == gates
        assert live_before or not self.live().keys() - {"."}
        self.leaves_nothing()
        return run

    def leaves_nothing(self) -> None:
        assert not list(self.temporary.iterdir())
        assert not list(self.own_keys.iterdir())
        assert not (self.git_dir / "gitopsd-keys").exists()
        assert agents(self.directory) == []


@pytest.fixture
def strategy() -> str:
    return "in-place"


@pytest.fixture
def kind() -> str:
    return "ssh"


@pytest.fixture
def judge(tmp_path: Path, signed_with: Callable[[str], Signed], strategy: str, kind: str) -> Judge:
    """A host without anything yet."""
    signed = signed_with(kind)
    bare = shutil.copytree(signed.remote.bare, tmp_path / "remote.git")
    remote = Remote(bare=bare, work=signed.remote.work, branch=signed.remote.branch)
    return Judge(directory=tmp_path, remote=remote, strategy=strategy, kind=kind, signed=signed)


@pytest.fixture
def host(judge: Judge) -> Judge:
    """One where the base is deployed."""
    judge.accepts("base")
    return judge


# Commits


@pytest.mark.parametrize(
    ("strategy", "kind", "name", "reason"),
    [
        ("in-place", "ssh", "unsigned", "it has no ssh signature"),
        ("release", "ssh", "mallory", "its key is none of the allowed signers"),
        ("in-place", "ssh", "expired", "its key is none of the allowed signers"),
        ("release", "ssh", "elsewhere", "it has no ssh signature"),
        ("in-place", "ssh", "tampered", "it was changed after it had been signed"),
        ("release", "gpg", "unsigned", "it has no gpg signature"),
        ("in-place", "gpg", "mallory", "its key is not in the keyring"),
        ("release", "gpg", "expired", "its key has expired"),
        ("in-place", "gpg", "revoked", "its key was revoked"),
        ("release", "gpg", "elsewhere", "it has no gpg signature"),
        ("in-place", "gpg", "tampered", "it was changed after it had been signed"),
    ],
)
def test_a_commit_is_refused_that_nobody_has_signed_who_may(host: Judge, name: str, reason: str) -> None:
    host.allow("ada", *{"expired", "revoked"} & {name})
    host.refuses(name, reason)
    host.accepts("ada")


@both_of_both
def test_a_first_checkout_of_an_unsigned_commit_brings_nothing_to_life(judge: Judge) -> None:
    judge.refuses("unsigned", "it has no ")
    assert not judge.path.is_symlink()
    judge.accepts("bob")


@both_kinds
def test_a_key_that_was_taken_away_signs_nothing_more(host: Judge) -> None:
    host.accepts("bob")
    host.allow("ada")
    assert host.synced()["changed"] == "no"
    more = host.studio.commit(host.commit("bob"), by=host.key("bob"))
    host.studio.point("refs/heads/main", more)
    host.refuses_this(f"commit {more[:12]}", "its key is n")
    host.allow("ada", "bob")
    host.deployed(more)


@both_kinds
def test_a_signature_vouches_for_all_that_is_below(host: Judge) -> None:
    host.accepts("on top of unsigned")


@both_kinds
def test_nothing_that_is_deployed_already_is_looked_at_again(host: Judge) -> None:
    host.deployed(host.show("unsigned"), GITOPSD_VERIFY="none")
    assert "verify" not in host.synced().phases
    host.refuses("unsigned", "it has no ", GITOPSD_FORCE="yes")


@both_strategies
def test_force_is_no_way_around_a_signature(host: Judge) -> None:
    host.refuses("mallory", "", GITOPSD_FORCE="yes")


@both_strategies
def test_a_signed_tag_makes_no_signed_branch(host: Judge) -> None:
    host.studio.tag("v1", host.commit("unsigned"), by=host.key("ada"))
    host.refuses("unsigned", "it has no ")


def test_a_revision_that_was_rolled_back_to_is_not_asked_for_its_signature_again(host: Judge) -> None:
    host.allow("bob")
    revision = host.show("bob")
    deploy = shlex.join(["sh", "-c", 'test "$GITOPSD_NEW_REVISION" != "$1"', "deploy", revision])
    run = host.sync(GITOPSD_ROLLBACK="yes", GITOPSD_DEPLOY=deploy)
    assert (run.code, run["rolled_back"]) == (DEPLOY_FAILED, host.commit("base"))
    assert host.standing == host.commit("base")


# Whom the user of the sync trusts


FAKE = """#!/bin/sh
# Reads what is signed, as else git might take a broken pipe for its verdict.
echo "$*" >>"$(dirname "$0")/asked"
case "$*" in
*find-principals*) echo ada-ssh@example.org ;;
*-Y*) cat >/dev/null; echo 'Good "git" signature for ada-ssh@example.org with ED25519 key SHA256:0000' ;;
*)
    cat >/dev/null
    printf '[GNUPG:] %s\\n' NEWSIG 'GOODSIG 0 ada' 'VALIDSIG 0 2020-01-01 0 0 4 0 22 8 00 0' 'TRUST_ULTIMATE 0 pgp'
    ;;
esac
"""


def hostile_settings(host: Judge) -> dict[str, str]:
    """Settings of git with which everything is signed well."""
    fake, theirs = host.directory / "fake", host.directory / "their-signers"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    theirs.write_text(host.key("mallory").public)
    names = ("gpg.program", "gpg.openpgp.program", "gpg.x509.program", "gpg.ssh.program", "gpg.ssh.defaultKeyCommand")
    return {
        **dict.fromkeys(names, str(fake)),
        "gpg.ssh.allowedSignersFile": str(theirs),
        "gpg.minTrustLevel": "undefined",
        "log.showSignature": "true",
    }


@both_of_both
def test_what_the_repository_says_of_keys_changes_nothing(host: Judge) -> None:
    for name, value in hostile_settings(host).items():
        host.ask("config", name, value)
    host.show("mallory")
    host.sync(GITOPSD_VERIFY=None, GITOPSD_GATE="false")
    host.ask("verify-commit", host.commit("mallory"))
    asked = (host.directory / "asked").read_text()
    for name in ("mallory", "unsigned", "elsewhere", "tampered"):
        host.refuses(name, "")
    host.accepts("ada")
    assert (host.directory / "asked").read_text() == asked


@pytest.mark.parametrize(("kind", "trusts"), [("ssh", True), ("gpg", True), ("ssh", False), ("gpg", False)], ids=str)
def test_whom_the_user_of_the_sync_trusts_changes_nothing(host: Judge, *, trusts: bool) -> None:
    settings = hostile_settings(host) if trusts else {"gpg.minTrustLevel": "ultimate"}
    configuration = host.directory / "gitconfig"
    for name, value in settings.items():
        host.ask("config", "--file", str(configuration), name, value)
    theirs = {"GIT_CONFIG_GLOBAL": str(configuration), "GNUPGHOME": str(host.signed.keys.gnupg_home)}
    for name in ("mallory", "elsewhere"):
        host.refuses(name, "", **theirs)
    host.accepts("ada", **theirs)
    assert not (host.directory / "asked").exists()


@both_kinds
def test_the_deploy_has_the_keys_of_its_user_and_not_those_of_the_engine(host: Judge) -> None:
    host.show("ada")
    host.synced(
        GITOPSD_DEPLOY=shlex.join(["sh", "-c", 'echo "$GNUPGHOME" >"$1"', "deploy", str(host.directory / "told")])
    )
    assert (host.directory / "told").read_text().strip() == str(host.own_keys)


def test_the_keys_that_a_killed_sync_has_left_are_not_believed(host: Judge) -> None:
    host.environment |= {"GITOPSD_VERIFY": "gpg", "GITOPSD_KEYRING": str(host.signers)}
    host.signers.write_text(host.key("elsewhere").public)
    shutil.copytree(host.signed.keys.gnupg_home, host.git_dir / "gitopsd-keys", ignore=shutil.ignore_patterns("S.*"))
    host.refuses("ada", "it has no gpg signature")
    host.accepts("elsewhere")


# Settings that cannot be


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        ("ssh", None, "GITOPSD_ALLOWED_SIGNERS '{}' cannot be read"),
        ("gpg", None, "GITOPSD_KEYRING '{}' cannot be read"),
        ("gpg", "", "{} holds no keys that gpg can read"),
        ("gpg", "ada@example.org ssh-ed25519 AAAA\n", "{} holds no keys that gpg can read"),
    ],
)
def test_without_the_keys_of_those_who_may_sign_the_configuration_is_wrong(
    host: Judge, content: str | None, reason: str
) -> None:
    host.show("ada")
    if content is None:
        host.signers.unlink()
    else:
        host.signers.write_text(content)
    host.in_vain(reason.format(host.signers), code=MISCONFIGURED)
    host.leaves_nothing()


def test_nobody_may_sign_where_the_file_of_the_signers_is_empty(host: Judge) -> None:
    host.allow()
    host.refuses("ada", "its key is none of the allowed signers")


@pytest.mark.parametrize(("kind", "program"), [("gpg", "gpg"), ("ssh", "ssh-keygen")])
def test_without_the_program_that_checks_signatures_the_configuration_is_wrong(host: Judge, program: str) -> None:
    commands = path_without(host.directory / "commands", program)
    host.show("ada")
    host.in_vain(f"{program} is not installed (PATH={commands}), and verify is", code=MISCONFIGURED, PATH=commands)


# Merges that a forge signs


@pytest.mark.parametrize(("kind", "first"), [("ssh", False), ("gpg", True)])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ada", None),
        ("merge of signed", None),
        ("merge of merges", None),
        ("forge", "it is no merge, and"),
        ("merge of unsigned", "by way of {unsigned:.12}: it has no "),
        ("merge of mallory", "by way of {mallory:.12}: its key is n"),
        ("merge of the forge", "by way of {forge:.12}: it is no merge, and"),
        ("merge of merges of unsigned", "by way of {unsigned:.12}: it has no "),
    ],
)
def test_a_forge_may_sign_merges_of_what_others_have_signed_and_no_more(
    request: pytest.FixtureRequest, kind: str, name: str, reason: str | None, *, first: bool
) -> None:
    host: Judge = request.getfixturevalue("judge" if first else "host")
    host.environment["GITOPSD_MERGE_BY"] = f"somebody@example.org {host.key('forge').identity}"
    if reason is None:
        host.accepts(name)
    else:
        host.refuses(name, reason.format(**host.signed.commits))


def test_what_is_merged_into_may_be_anything_that_was_deployed(host: Judge) -> None:
    host.environment["GITOPSD_MERGE_BY"] = host.key("forge").identity
    host.deployed(host.show("unsigned"), GITOPSD_VERIFY="none")
    merge = host.studio.commit(host.commit("unsigned"), host.commit("bob"), by=host.key("forge"))
    host.studio.point("refs/heads/main", merge)
    host.deployed(merge)


def test_each_of_very_many_merges_is_looked_at_once(host: Judge) -> None:
    host.environment["GITOPSD_MERGE_BY"] = host.key("forge").identity
    one, other = host.commit("ada"), host.commit("bob")
    for _ in range(12):
        one, other = (host.studio.commit(*pair, by=host.key("forge")) for pair in ((one, other), (other, one)))
    host.studio.point("refs/heads/main", one)
    host.deployed(one)


def test_a_merge_whose_parents_are_left_out_by_depth_is_not_known_to_be_of_signed_commits(judge: Judge) -> None:
    more = {
        "GITOPSD_MERGE_BY": judge.key("forge").identity,
        "GITOPSD_URL": f"file://{judge.remote.bare}",
        "GITOPSD_DEPTH": "1",
    }
    judge.refuses("merge of signed", f"by way of {judge.commit('ada')[:12]}: ", **more)


# Tags


@pytest.fixture
def tags(host: Judge) -> Judge:
    """One that follows tags, and stands at the signed v1."""
    host.environment |= {"GITOPSD_REF": "v*", "GITOPSD_MERGE_BY": host.key("forge").identity}
    host.studio.tag("v1", host.commit("base"), by=host.key("ada"))
    host.synced()
    return host


@both_of_both
def test_a_signed_tag_is_enough_for_an_unsigned_commit(tags: Judge) -> None:
    tags.studio.tag("v2", tags.commit("unsigned"), by=tags.key("bob"))
    tags.deployed(tags.commit("unsigned"))
    tags.leaves_nothing()


@both_of_both
@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("lightweight", "is a lightweight one, which has no signature"),
        ("unsigned", "it has no "),
        ("another name", "was signed as v1"),
        ("mallory", "its key is n"),
        ("elsewhere", "it has no "),
        ("tampered", "it was changed after it had been signed"),
        ("forge", "may sign merges alone"),
    ],
)
def test_a_tag_has_to_be_signed_itself_and_by_its_name(tags: Judge, tag: str, reason: str) -> None:
    studio, commit = tags.studio, tags.commit("ada")
    if tag == "lightweight":
        studio.point("refs/tags/v2", commit)
    elif tag == "unsigned":
        studio.tag("v2", commit)
    elif tag == "another name":
        studio.point("refs/tags/v2", studio.tag("v1", commit, by=tags.key("ada")))
    elif tag == "tampered":
        content = studio.git("cat-file", "tag", studio.tag("v2", commit, by=tags.key("ada")))
        other = content.replace(commit, tags.commit("unsigned"), 1) + "\n"
        studio.point("refs/tags/v2", studio.git("hash-object", "-t", "tag", "-w", "--stdin", text=other))
    else:
        studio.tag("v2", commit, by=tags.key(tag))
    tags.refuses_this("", reason)


# Revisions that somebody asks for


@both_of_both
def test_a_rollback_to_what_has_passed_needs_neither_key_nor_remote(host: Judge) -> None:
    host.accepts("bob")
    host.signers.write_text(host.key("forge").public)
    host.remote.bare.rename(host.directory / "gone")
    host.deployed(host.commit("base"), GITOPSD_REVISION=host.commit("base"))
    host.leaves_nothing()


@both_strategies
def test_a_rollback_to_what_nobody_has_signed_is_refused(host: Judge) -> None:
    host.accepts("on top of unsigned")
    revision = host.commit("unsigned")
    host.refuses_this(f"commit {revision[:12]}", "it has no ", GITOPSD_REVISION=revision)
    host.refuses_this(f"commit {revision[:12]}", "it has no ", GITOPSD_REVISION=revision, GITOPSD_FORCE="yes")


def test_a_rollback_between_tags_needs_no_key_either(tags: Judge) -> None:
    tags.studio.tag("v2", tags.commit("unsigned"), by=tags.key("ada"))
    tags.deployed(tags.commit("unsigned"))
    tags.studio.tag("v3", tags.commit("ada"), by=tags.key("ada"))
    tags.deployed(tags.commit("ada"))
    tags.signers.write_text(tags.key("mallory").public)
    tags.deployed(tags.commit("unsigned"), GITOPSD_REVISION=tags.commit("unsigned"))
