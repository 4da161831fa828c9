"""The package for Fedora: built here, and installed with rpm into a Debian of another Python that knows nothing of it.

Fedora's packages are played by empty ones of the same names: rpm then looks after what is required, Debian runs it.
"""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from gitopsd import __version__
from tests.remote import Remote
from tests.site import SECRET
from tests.system import roots

TOP = Path(__file__).parents[2]
RELEASE = "debian13"  # newer than what the package is built on, as every Fedora is
NEXT_VERSION = "99.0"
CONFIG = "etc/gitopsd/gitopsd.yaml"
PACKAGE = "usr/share/gitopsd/gitopsd"
HELPER = "usr/lib/systemd/systemd-update-helper"
EPOCH = "1700000000"

_TOOLS = ("rpm", "rpmbuild", "rpmlint", "mmdebstrap", "mount", "unshare", "chroot")
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# What Fedora has each command and library in.
PROGRAMS = {"coreutils", "findutils", "git-core", "grep", "openssh-clients", "polkit", "sed"}
FEDORA_NAMES = {"pyyaml": "python3-pyyaml"}  # the others are python3-NAME

UNITS = {"gitopsd.socket", "gitopsd-poll.timer", "gitopsd-catchall.timer", "gitopsd-tunnel.service"}
NEVER_ENABLED = {
    "gitopsd-poll.service",
    "gitopsd-catchall.service",
    "gitopsd-notify.service",
    "gitopsd-sync@.service",
}

# Those that Fedora's package `filesystem` owns, and Debian has elsewhere.
SHARED_DIRECTORIES = ["usr/share/fish/vendor_completions.d", "usr/share/licenses", "usr/share/zsh/site-functions"]

# What Debian's rpm has to say to somebody on Debian.
_REMARK = re.compile(r"rpm: (RPM should not be used directly|However assuming you know).*\n")

pytestmark = pytest.mark.timeout(600)  # the first test may have to make the tree


def _why_not() -> str:
    if os.geteuid() != 0:
        return "only root can install a package for Fedora into a tree"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return f"not installed here: {', '.join(missing)}" if missing else ""


@dataclass(frozen=True)
class Root:
    """A throw-away tree to install into. No systemd runs in it."""

    path: Path

    def run(
        self, *argv: str, environment: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that is in the tree."""
        done = self._alone("chroot", str(self.path), *argv, environment=environment)
        assert not check or done.returncode == 0, f"{argv} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done

    def rpm(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run this machine's rpm on the tree; it runs scriptlets within."""
        done = self._alone("rpm", "--root", str(self.path), "--dbpath", "/var/lib/rpm", *map(str, arguments))
        done.stderr = _REMARK.sub("", done.stderr)
        assert not check or done.returncode == 0, f"rpm {arguments} exited with {done.returncode}:\n{done.stderr}"
        return done

    def _alone(self, *argv: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        # systemd-tmpfiles wants to see /proc, which is there for as long as the command runs.
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", f"--mount-proc={self.path}/proc"]
        return _run(*alone, *argv, environment=environment)

    def files(self, *below: str) -> set[str]:
        """Everything that lies below these directories, relative to the tree; links are not followed."""
        found = (path for top in below for path in (self.path / top).rglob("*"))
        return {str(path.relative_to(self.path)) for path in found}

    def compiled(self) -> set[str]:
        return {path for path in self.files("usr/share/gitopsd") if path.endswith(".pyc")}

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def configure(self, **settings: object) -> None:
        self.write(CONFIG, yaml.safe_dump(settings))

    def listen_for_systemd(self) -> None:
        """Put in the place of Fedora's helper of scriptlets one that writes down what it is asked for."""
        self.write(HELPER, '#!/bin/sh\necho "$@" >>/asked\n', mode=0o755)

    def asked(self) -> list[list[str]]:
        """What systemd was asked for since the last time."""
        log = self.path / "asked"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line.split() for line in lines]


def _run(*argv: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        env={"PATH": _SYSTEM_PATH, "HOME": "/root", "LANG": "C.UTF-8", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def copy_tree(place: Path) -> Path:
    """A clean copy of what packages are made from."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("docs", "gitopsd", "packaging", "scripts", "units"):
        shutil.copytree(TOP / name, place / name, symlinks=True, ignore=ignored)
    for name in ("CHANGELOG.md", "LICENSE", "README.md"):
        shutil.copy(TOP / name, place)
    return place


def build(source: Path, out: Path, **environment: str) -> Path:
    """Build the package of a tree, as packaging/build.sh does."""
    told = {"SOURCE_DATE_EPOCH": EPOCH, **environment}
    done = _run(source / "packaging" / "rpm" / "build.sh", source, out, environment=told)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    [package] = out.iterdir()
    return package


def build_stand_in(place: Path, name: str, version: str, provides: Sequence[str], files: Sequence[str] = ()) -> Path:
    """A package of Fedora's of which only the names matter, and files that are empty."""
    install = [f"install -D /dev/null %{{buildroot}}{file}" for file in files]
    provided = [f"Provides: {what}" for what in provides]
    head = [
        f"Name: {name}",
        f"Version: {version}",
        "Release: 1",
        "Summary: -",
        "License: MIT",
        "BuildArch: noarch",
        "AutoReqProv: no",
    ]
    spec = place / f"{name}.spec"
    spec.write_text("\n".join([*head, *provided, "%description", "%install", *install, "%files", *files, ""]))
    done = _run("rpmbuild", "-bb", "--define", f"_topdir {place}/{name}-{version}", spec)
    assert done.returncode == 0, done.stderr
    [package] = place.glob(f"{name}-{version}/RPMS/noarch/*.rpm")
    return package


@pytest.fixture(scope="module", autouse=True)
def _able() -> None:
    if reason := _why_not():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout."""
    place = tmp_path_factory.mktemp("package")
    return build(copy_tree(place / "source"), place / "out")


@pytest.fixture(scope="module")
def next_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a later version: one with other settings, and with another module in the place of one."""
    place = tmp_path_factory.mktemp("next")
    source = copy_tree(place / "source")
    (source / "gitopsd" / "__init__.py").write_text(f'__version__ = "{NEXT_VERSION}"\n')
    shutil.move(source / "gitopsd" / "store", source / "gitopsd" / "records")
    with (source / "docs" / "gitopsd.example.yaml").open("a") as example:
        example.write("# later: true\n")
    return build(source, place / "out", SOURCE_DATE_EPOCH=str(int(EPOCH) + 60))


@pytest.fixture(scope="module")
def fedora(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Packages that provide what the package may require, in the versions of Fedora 41, and nothing else."""
    libraries = {
        "falcon": "1:3.1.3",
        "filelock": "3.15.4",
        "greenlet": "3.1.1",
        "jsonschema": "4.19.1",
        "pystemd": "0.13.2",
        "pyyaml": "6.0.1",
        "rich": "13.7.1",
        "sdnotify": "0.3.2",
        "waitress": "3.0.1",
    }
    provides = [f"python3-{name} = {version}" for name, version in libraries.items()]
    provides += ["/bin/sh", "/bin/bash", "/usr/bin/bash", "systemd = 256.17", *sorted(PROGRAMS)]
    place = tmp_path_factory.mktemp("fedora")
    return [
        build_stand_in(place, "fedora", "41", provides),
        build_stand_in(place, "python3", "3.13", ["/usr/bin/python3"]),
    ]


@pytest.fixture(scope="module")
def tree() -> Path:
    try:
        return roots.trees([RELEASE])[RELEASE]
    except roots.RootError as error:
        pytest.skip(str(error))


@pytest.fixture
def root(tmp_path: Path, tree: Path, fedora: list[Path]) -> Iterator[Root]:
    """Where Fedora's packages are, and ours is not."""
    upper, work, merged = (tmp_path / name for name in ("upper", "work", "merged"))
    for place in (upper, work, merged):
        place.mkdir(mode=0o755)
    layers = f"lowerdir={tree},upperdir={upper},workdir={work}"
    mounted = _run("mount", "-t", "overlay", "-o", layers, "gitopsd-test", merged)
    if mounted.returncode != 0:
        pytest.skip(f"a root tree cannot be mounted here: {mounted.stderr.strip()}")
    try:
        here = Root(merged)
        here.rpm("--install", *fedora)
        yield here
    finally:
        subprocess.run(["umount", "--lazy", merged], check=True)


# ------------------------------------------------------------------------------------------- the package


def test_its_name_and_version_are_those_of_the_program(package: Path) -> None:
    assert package.name == f"gitopsd-{__version__}-1.noarch.rpm"
    asked = _run("rpm", "--query", "--package", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE} %{LICENSE}", package)
    assert asked.stdout == f"gitopsd {__version__}-1 MIT"


def test_the_same_tree_gives_the_same_bytes_wherever_and_by_whomever_it_is_built(package: Path, tmp_path: Path) -> None:
    source = copy_tree(tmp_path / "another place")
    for path in source.rglob("*"):
        os.utime(path, (1600000000, 1600000000), follow_symlinks=False)
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)

    again = build(source, tmp_path / "out", TZ="Pacific/Auckland", HOME=str(tmp_path), LC_ALL="C", USER="ada")

    assert again.read_bytes() == package.read_bytes()


def test_rpmlint_has_nothing_to_say(package: Path) -> None:
    ours = TOP / "packaging" / "rpm"
    done = _run("rpmlint", "--config", ours / "rpmlint.toml", package, ours / "gitopsd.spec")
    assert done.returncode == 0, done.stdout
    assert " 0 errors, 0 warnings," in done.stdout, done.stdout


def test_each_library_is_required_under_fedoras_name_in_the_version_that_is_needed(package: Path) -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    needed = {f"python3 {project['requires-python'].replace('>=', '>= ')}"}
    for dependency in (*project["dependencies"], *project["optional-dependencies"]["systemd"]):
        name, version = dependency.split(" >=")
        needed.add(f"{FEDORA_NAMES.get(name, 'python3-' + name)} >= {version}")

    required = set(_run("rpm", "--query", "--package", "--requires", package).stdout.splitlines())

    assert {line for line in required if line.startswith("python3")} == needed
    assert required >= {*PROGRAMS, "systemd >= 252"}


def test_what_only_some_need_is_suggested_and_no_more(package: Path) -> None:
    suggested = _run("rpm", "--query", "--package", "--suggests", package).stdout.split()
    assert suggested == ["cloudflared", "python3-apprise", "python3-cryptography"]


def test_every_unit_of_the_checkout_is_in_it_and_asked_about(package: Path) -> None:
    listed = _run("rpm", "--query", "--package", "--list", package).stdout.splitlines()
    units = {Path(path).name for path in listed if path.startswith("/usr/lib/systemd/system/")}
    assert units == {
        path.name for path in (TOP / "units").iterdir() if path.suffix in {".service", ".socket", ".timer"}
    }
    assert units == UNITS | NEVER_ENABLED | {"gitopsd.service"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs two directories; usage: packaging/rpm/build.sh SOURCE_DIR OUT_DIR"),
        (["{top}/units", "{out}"], "{top}/units is no tree of gitopsd"),
    ],
)
def test_a_wrong_call_is_one_line_and_makes_nothing(arguments: list[str], message: str, tmp_path: Path) -> None:
    names = {"top": str(TOP), "out": str(tmp_path / "out")}
    done = _run(TOP / "packaging" / "rpm" / "build.sh", *(each.format(**names) for each in arguments))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message.format(**names)}\n")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------- installed


def test_it_installs_without_a_warning_where_no_systemd_runs(root: Root, package: Path) -> None:
    done = root.rpm("--install", package)

    # systemd-sysusers says whom it makes.
    assert [line for line in done.stderr.splitlines() if not re.match("Creating (user|group) 'gitopsd", line)] == []
    assert done.stdout == ""
    assert root.rpm("--verify", "gitopsd").stdout == ""


def test_its_programs_run_with_the_python_that_is_there(root: Root, package: Path) -> None:
    root.rpm("--install", package)
    root.configure(repos={"site": {"url": "/srv/remote.git", "path": "/srv/site", "ref": "main"}})

    assert root.run("gitopsd", "version").stdout == f"gitopsd {__version__}\n"
    assert "usage: gitopsd" in root.run("gitopsd", "--help").stdout
    checked = root.run("gitopsd", "check", "--offline", environment={"GITHUB_WEBHOOK_SECRET": SECRET})
    assert "✓ engine /usr/share/gitopsd/gitopsd/gitops_sync.sh\n" in checked.stdout


def test_a_sync_as_a_child_process_finds_its_modules(root: Root, package: Path) -> None:
    root.rpm("--install", package)
    remote = Remote.create(root.path / "srv")
    tip = remote.push({"deploy.sh": "#!/bin/sh\ncp README /srv/deployed\n"})
    site = {"url": "/srv/remote.git", "path": "/srv/site", "ref": "main", "deploy": ["./deploy.sh"]}
    root.configure(runner="local", repos={"site": site})

    done = root.run("gitopsd", "sync", "site")

    assert "site: succeeded" in done.stdout + done.stderr
    assert (root.path / "srv/deployed").read_text() == "A remote for tests.\n"
    [job] = json.loads(root.run("gitopsd", "history", "--json").stdout)["jobs"]
    assert (job["state"], job["new_revision"]) == ("succeeded", tip)


def test_its_modules_come_before_others_of_that_name_and_nobodys_surroundings_matter(root: Root, package: Path) -> None:
    root.rpm("--install", package)
    for place in ("usr/lib/python3/dist-packages", "root"):
        root.write(f"{place}/gitopsd/__init__.py", "raise SystemExit('another gitopsd')")

    assert root.run("gitopsd", "version", environment={"PYTHONPATH": "/root"}).stdout == f"gitopsd {__version__}\n"


def test_the_engine_is_one_file_where_programs_are_and_beside_its_modules(root: Root, package: Path) -> None:
    root.rpm("--install", package)

    engine = root.path / "usr/libexec/gitopsd/gitops_sync.sh"
    assert os.access(engine, os.X_OK)
    assert engine.read_bytes() == (TOP / "scripts" / "gitops_sync.sh").read_bytes()
    assert (root.path / PACKAGE / "gitops_sync.sh").samefile(engine)


def test_systemd_finds_no_fault_with_its_units(root: Root, package: Path) -> None:
    root.write("usr/bin/cloudflared", "#!/bin/sh\n", mode=0o755)
    root.rpm("--install", package)

    units = [unit.replace("@", "@site") for unit in sorted(UNITS | NEVER_ENABLED)]
    done = root.run("systemd-analyze", "verify", "--man=no", "gitopsd.service", *units, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr


def test_the_manual_pages_that_units_refer_to_are_there(package: Path) -> None:
    units = "".join(path.read_text() for path in (TOP / "units").iterdir())
    wanted = {f"man{section}/{name}.{section}" for name, section in re.findall(r"\bman:([\w.-]+)\((\d)\)", units)}
    listed = _run("rpm", "--query", "--package", "--list", package).stdout.splitlines()
    assert {f"/usr/share/man/{page}.gz" for page in {*wanted, "man8/gitopsd.8", "man5/gitopsd.yaml.5"}} <= set(listed)


def test_owners_and_modes_keep_secrets_with_root_and_state_with_who_needs_it(root: Root, package: Path) -> None:
    root.rpm("--install", package)

    places = [
        line.split()[1:5] for line in (TOP / "units" / "gitopsd.tmpfiles").read_text().splitlines() if line[:2] == "d "
    ]
    assert len(places) > 5
    found = root.run("stat", "--format=%n %04a %U %G", *(path for path, *_ in places)).stdout
    assert [line.split() for line in found.splitlines()] == places
    # What rpm has on record about them is the same.
    assert root.rpm("--verify", "gitopsd").stdout == ""
    assert {Path("/" + path) for path in root.files("etc/gitopsd")} | {Path("/etc/gitopsd")} == {
        *(Path(path) for path, *_ in places if path.startswith("/etc")),
        Path("/" + CONFIG),
    }


def test_nothing_is_enabled_and_systemd_is_asked_for_the_presets_alone(root: Root, package: Path) -> None:
    root.listen_for_systemd()

    root.rpm("--install", package)

    [[verb, *units]] = root.asked()
    assert verb == "install-system-units"
    assert set(units) == UNITS
    presets = (root.path / "usr/lib/systemd/system-preset/90-gitopsd.preset").read_text().splitlines()
    assert {line for line in presets if not line.startswith("#")} == {f"disable {unit}" for unit in UNITS}
    assert not [path for path in root.files("etc/systemd") if "gitopsd" in path]


def test_an_installation_from_a_checkout_is_not_hidden_behind(root: Root, package: Path) -> None:
    root.write("usr/local/bin/gitopsd", "#!/bin/sh\n", mode=0o755)

    done = root.rpm("--install", package, check=False)

    assert done.returncode != 0
    assert (
        "gitopsd: /usr/local/bin/gitopsd is there already and would hide this package; remove it first" in done.stderr
    )
    assert not root.files("usr/share/gitopsd")


# ------------------------------------------------------------------------------------------- byte-code


def test_each_module_is_compiled_by_the_python_that_is_there(root: Root, package: Path) -> None:
    listed = _run("rpm", "--query", "--package", "--list", package).stdout
    assert ".pyc" not in listed

    root.rpm("--install", package)

    tag = root.run("python3", "-c", "import sys; print(sys.implementation.cache_tag)").stdout.strip()
    modules = {Path(path) for path in listed.splitlines() if path.endswith(".py")}
    assert {Path("/" + path) for path in root.compiled()} == {
        path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc" for path in modules
    }


def test_byte_code_is_made_anew_when_python_is_upgraded(root: Root, package: Path, tmp_path: Path) -> None:
    root.rpm("--install", package)
    before = root.compiled()
    for path in before:
        (root.path / path).unlink()

    root.rpm(
        "--upgrade", build_stand_in(tmp_path, "python3", "3.14", ["/usr/bin/python3"], ["/usr/lib/python3.99/new"])
    )

    assert root.compiled() == before


# ------------------------------------------------------------------------------------------- upgrade and erase


def test_an_upgrade_keeps_what_the_operator_has_configured(root: Root, package: Path, next_package: Path) -> None:
    root.rpm("--install", package)
    root.configure(max_parallel=3)
    root.write("etc/gitopsd/secrets/github-webhook-secret", SECRET, mode=0o600)

    done = root.rpm("--upgrade", next_package)

    assert done.stderr == "warning: /etc/gitopsd/gitopsd.yaml created as /etc/gitopsd/gitopsd.yaml.rpmnew\n"
    assert yaml.safe_load((root.path / CONFIG).read_text()) == {"max_parallel": 3}
    assert (root.path / CONFIG).with_suffix(".yaml.rpmnew").read_text().endswith("# later: true\n")
    assert (root.path / "etc/gitopsd/secrets/github-webhook-secret").read_text() == SECRET


def test_an_upgrade_replaces_settings_that_nobody_has_touched(root: Root, package: Path, next_package: Path) -> None:
    root.rpm("--install", package)

    assert root.rpm("--upgrade", next_package).stderr == ""

    assert (root.path / CONFIG).read_text().endswith("# later: true\n")


def test_an_upgrade_leaves_nothing_of_a_module_that_is_gone(root: Root, package: Path, next_package: Path) -> None:
    root.rpm("--install", package)
    assert [path for path in root.compiled() if "/store/" in path]

    root.rpm("--upgrade", next_package)

    assert not (root.path / PACKAGE / "store").exists()
    sources = {path for path in root.files(PACKAGE) if path.endswith(".py")}
    assert len(root.compiled()) == len(sources)
    assert [path for path in root.compiled() if "/records/" in path]
    version = root.run(
        "python3", "-c", f"import sys; sys.path[:0] = ['/{PACKAGE}/..']; import gitopsd as g; print(g.__version__)"
    )
    assert version.stdout == f"{NEXT_VERSION}\n"


def test_an_upgrade_asks_for_a_new_daemon_and_leaves_the_socket_and_the_syncs_alone(
    root: Root, package: Path, next_package: Path
) -> None:
    root.rpm("--install", package)
    root.listen_for_systemd()

    root.rpm("--upgrade", next_package)

    assert root.asked() == [["mark-restart-system-units", "gitopsd.service"]]


def test_erasing_it_unused_leaves_nothing_but_its_users(root: Root, package: Path) -> None:
    places = ("etc", "usr", "var/cache", "var/lib/gitopsd", "var/lib/gitopsd-sync")
    for directory in SHARED_DIRECTORIES:
        (root.path / directory).mkdir(parents=True, exist_ok=True)
    before = root.files(*places)
    root.rpm("--install", package)
    root.run("gitopsd", "version")

    done = root.rpm("--erase", "gitopsd")

    assert (done.stdout, done.stderr) == ("", "")
    # systemd-sysusers keeps the files that it changes: passwd-, group-.
    assert {
        path for path in root.files(*places) - before if not re.match(r"etc/g?(passwd|shadow|group)-$", path)
    } == set()
    assert before - root.files(*places) == set()
    assert root.run("getent", "passwd", "gitopsd", "gitopsd-sync").stdout.count("nologin") == 2


def test_erasing_it_keeps_configuration_secrets_and_records(root: Root, package: Path) -> None:
    root.rpm("--install", package)
    Remote.create(root.path / "srv")
    root.configure(runner="local", repos={"site": {"url": "/srv/remote.git", "path": "/srv/site", "ref": "main"}})
    root.write("etc/gitopsd/keys/site", "a key", mode=0o600)
    root.write("etc/gitopsd/conf.d/more.yaml", "{}\n")
    root.run("gitopsd", "sync", "site")
    state = {path for path in root.files("var/lib/gitopsd") if (root.path / path).is_file()}
    assert "var/lib/gitopsd/store/gitopsd.sqlite3" in state

    done = root.rpm("--erase", "gitopsd")

    assert done.stderr == "warning: /etc/gitopsd/gitopsd.yaml saved as /etc/gitopsd/gitopsd.yaml.rpmsave\n"
    assert root.files("etc/gitopsd") == {
        "etc/gitopsd/conf.d",
        "etc/gitopsd/conf.d/more.yaml",
        "etc/gitopsd/gitopsd.yaml.rpmsave",
        "etc/gitopsd/keys",
        "etc/gitopsd/keys/site",
    }
    assert {path for path in root.files("var/lib/gitopsd") if (root.path / path).is_file()} == state
    assert not root.files("usr/share/gitopsd", "usr/libexec/gitopsd")


def test_erasing_it_stops_everything_also_syncs_that_run(root: Root, package: Path) -> None:
    root.rpm("--install", package)
    root.listen_for_systemd()
    # As if one ran. The daemon has to be kept from starting: a sync that is stopped asks for it.
    root.write("usr/bin/systemctl", '#!/bin/sh\necho systemctl "$@" >>/asked\n', mode=0o755)
    (root.path / "run/systemd/system").mkdir(parents=True)

    root.rpm("--erase", "gitopsd")

    daemon, others, *after = root.asked()
    assert daemon == ["systemctl", "--quiet", "mask", "--runtime", "--now", "gitopsd.service"]
    assert others[0] == "remove-system-units"
    assert set(others[1:]) == UNITS | NEVER_ENABLED
    assert after[0] == ["systemctl", "--quiet", "unmask", "--runtime", "gitopsd.service"]
