"""What scripts/install.sh puts where, by --destdir: no root, no systemd, nothing of this machine is touched."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gitopsd import __version__

TOP = Path(__file__).parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
UNITS = "usr/local/lib/systemd/system"
LAUNCHER = "usr/local/bin/gitopsd"
CONFIG = "etc/gitopsd/gitopsd.yaml"
OLD_SITE = "usr/local/lib/python3.10/dist-packages"


def _is_new_enough() -> bool:
    """Whether the distribution's Python can run gitopsd; the tests may have another one."""
    try:
        return subprocess.run([SYSTEM_PYTHON, "-c", "import tomllib"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not _is_new_enough(), reason=f"{SYSTEM_PYTHON} is not Python 3.11 or later")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what is installed from, to be changed by a test."""
    top = tmp_path / "checkout"
    for name in ("docs", "gitopsd", "packaging", "scripts", "units"):
        shutil.copytree(TOP / name, top / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TOP / "CHANGELOG.md", top)
    return top


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the files go. Its name has a space in it: people have such directories."""
    return tmp_path / "the root"


def install(checkout: Path, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the script as somebody whose files are nobody else's business."""
    return subprocess.run(
        [checkout / "scripts" / "install.sh", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        umask=0o077,
        timeout=60,
        check=False,
    )


def install_into(root: Path, checkout: Path) -> None:
    done = install(checkout, "--destdir", root)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"gitopsd {__version__} is in {root}\n"


def package_in(root: Path) -> Path:
    """The one directory that the package is in."""
    [found] = (root / "usr").rglob("*-packages/gitopsd")
    return found


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every file, by its path. Compiled modules by path and mode: they may differ in a bit."""
    return {
        str(path.relative_to(root)): (path.stat().st_mode, b"" if path.suffix == ".pyc" else path.read_bytes())
        for path in root.rglob("*")
        if path.is_file()
    }


def test_every_unit_is_installed_and_starts_the_program_where_it_is(checkout: Path, root: Path) -> None:
    install_into(root, checkout)

    units = {path.name for path in (checkout / "units").iterdir() if path.suffix in {".service", ".socket", ".timer"}}
    assert {path.name for path in (root / UNITS).iterdir()} == units
    assert "ExecStart=/usr/local/bin/gitopsd serve\n" in (root / UNITS / "gitopsd.service").read_text()
    assert not [path for path, (_, content) in contents(root).items() if b"/usr/bin/gitopsd" in content]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("gitopsd.sysusers", "usr/local/lib/sysusers.d/gitopsd.conf"),
        ("gitopsd.tmpfiles", "usr/local/lib/tmpfiles.d/gitopsd.conf"),
        ("gitopsd.rules", "etc/polkit-1/rules.d/50-gitopsd.rules"),
        ("gitopsd.preset", "usr/local/lib/systemd/system-preset/90-gitopsd.preset"),
        ("gitopsd.catalog", "usr/local/lib/systemd/catalog/gitopsd.catalog"),
    ],
)
def test_what_belongs_to_the_units_is_where_systemd_and_polkit_look(
    checkout: Path, root: Path, name: str, place: str
) -> None:
    install_into(root, checkout)
    assert (root / place).read_bytes() == (checkout / "units" / name).read_bytes()


def test_the_manual_is_installed(checkout: Path, root: Path) -> None:
    install_into(root, checkout)
    pages = {
        str(path.relative_to(root / "usr/local/share/man")) for path in (root / "usr/local/share/man").rglob("*.*")
    }
    assert pages == {"man8/gitopsd.8", "man8/gitops_sync.sh.8", "man5/gitopsd.yaml.5"}


def test_the_package_is_all_of_the_checkout_and_nothing_that_was_compiled_there(checkout: Path, root: Path) -> None:
    stale = checkout / "gitopsd" / "__pycache__" / "forgotten.cpython-311.pyc"
    stale.parent.mkdir()
    stale.write_bytes(b"of another day")

    install_into(root, checkout)

    package = package_in(root)
    installed = {path for path in contents(package) if "__pycache__" not in path}
    assert installed == {path for path in contents(checkout / "gitopsd") if "__pycache__" not in path}
    assert not list(package.rglob("forgotten*"))
    assert list(package.rglob("__pycache__/daemon.*.pyc")), "it is compiled for the Python that will run it"


def test_the_engine_is_a_file_of_its_own_and_can_be_executed(checkout: Path, root: Path) -> None:
    (checkout / "scripts" / "gitops_sync.sh").chmod(0o644)  # as on a file system that knows no such thing

    install_into(root, checkout)

    engine = package_in(root) / "gitops_sync.sh"
    assert not engine.is_symlink()
    assert os.access(engine, os.X_OK)
    assert engine.read_bytes() == (TOP / "scripts" / "gitops_sync.sh").read_bytes()


def test_everybody_can_read_what_is_installed_whoever_installs_it(checkout: Path, root: Path) -> None:
    for path in (checkout / "gitopsd").rglob("*.py"):
        path.chmod(0o600)

    install_into(root, checkout)

    modes = {path: path.stat().st_mode & 0o777 for path in root.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o755}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o644, 0o755}
    executable = {path.name for path, mode in modes.items() if path.is_file() and mode == 0o755}
    assert executable == {"gitopsd", "gitops_sync.sh"}


def test_the_launcher_keeps_out_the_surroundings_of_whoever_calls_it(checkout: Path, root: Path) -> None:
    install_into(root, checkout)

    shebang, *_ = lines = (root / LAUNCHER).read_text().splitlines()
    assert shebang == f"#!{SYSTEM_PYTHON} -I"
    assert f'sys.path.append("/{package_in(root).parent.relative_to(root)}")' in lines
    compile("\n".join(lines), LAUNCHER, "exec")


def test_twice_gives_the_same_as_once(checkout: Path, root: Path) -> None:
    install_into(root, checkout)
    once = contents(root)

    install_into(root, checkout)

    assert contents(root) == once


def test_an_upgrade_leaves_nothing_of_the_older_version(checkout: Path, root: Path) -> None:
    (checkout / "gitopsd" / "gone.py").touch()
    (checkout / "units" / "gitopsd-gone.timer").touch()
    install_into(root, checkout)
    assert (root / UNITS / "gitopsd-gone.timer").exists()
    (checkout / "gitopsd" / "gone.py").unlink()
    (checkout / "units" / "gitopsd-gone.timer").unlink()

    install_into(root, checkout)

    assert not [path for path in contents(root) if "gone" in path]
    assert [path.name for path in package_in(root).parent.iterdir()] == ["gitopsd"]


def test_an_upgrade_of_python_takes_the_package_along(checkout: Path, root: Path) -> None:
    install_into(root, checkout)
    new, launcher = package_in(root), root / LAUNCHER
    old = root / OLD_SITE / "gitopsd"
    old.parent.mkdir(parents=True)
    new.rename(old)
    launcher.write_text(launcher.read_text().replace(f"/{new.parent.relative_to(root)}", "/" + OLD_SITE))

    install_into(root, checkout)

    assert package_in(root) == new


def test_an_installation_that_was_cut_off_is_completed(checkout: Path, root: Path) -> None:
    install_into(root, checkout)
    whole = contents(root)
    package = package_in(root)
    package.rename(package.with_name(".gitopsd.old"))  # between the two steps where exchanging is not possible
    shutil.copytree(checkout / "gitopsd" / "cli", package.with_name(".gitopsd.new"))
    (root / UNITS / "gitopsd.socket.new").write_text("[Sock")

    install_into(root, checkout)

    assert contents(root) == whole


def test_the_configuration_is_the_example_until_somebody_has_written_one(checkout: Path, root: Path) -> None:
    install_into(root, checkout)
    assert (root / CONFIG).read_bytes() == (TOP / "docs" / "gitopsd.example.yaml").read_bytes()
    (root / CONFIG).write_text("max_parallel: 3\n")

    install_into(root, checkout)

    assert (root / CONFIG).read_text() == "max_parallel: 3\n"


def test_a_link_in_the_place_of_the_configuration_stays_even_if_it_leads_nowhere(checkout: Path, root: Path) -> None:
    (root / CONFIG).parent.mkdir(parents=True)
    (root / CONFIG).symlink_to("not-mounted-yet.yaml")

    install_into(root, checkout)

    assert (root / CONFIG).is_symlink()
    assert not (root / CONFIG).exists()


def test_removing_leaves_the_configuration_and_what_others_put_there(checkout: Path, root: Path) -> None:
    install_into(root, checkout)
    others = [root / UNITS / "another.service", package_in(root).with_name("another.py")]
    for path in others:
        path.touch()

    for _ in "once", "twice":
        done = install(checkout, "--remove", "--destdir", root)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"gitopsd is removed from {root}.\nKept: {root}/etc/gitopsd\n"
        assert set(contents(root)) == {CONFIG, *(str(path.relative_to(root)) for path in others)}


def test_removing_takes_away_what_another_version_had(checkout: Path, root: Path) -> None:
    (checkout / "units" / "gitopsd-later.service").touch()
    install_into(root, checkout)
    shutil.rmtree(checkout / "units")

    install(checkout, "--remove", "--destdir", root)

    assert set(contents(root)) == {CONFIG}


def test_a_relative_directory_is_the_callers(checkout: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    done = install(checkout, "--destdir", "image", cwd=elsewhere)

    assert done.returncode == 0, done.stderr
    assert (elsewhere / "image" / LAUNCHER).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--purge"], "unknown option --purge; usage: scripts/install.sh [--remove] [--destdir DIR]"),
        (["--destdir"], "--destdir needs a directory"),
        (["--destdir", ""], "--destdir needs a directory"),
    ],
)
def test_a_wrong_call_is_one_line_and_changes_nothing(checkout: Path, arguments: list[str], message: str) -> None:
    done = install(checkout, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message}\n")


def test_half_a_checkout_is_not_installed(checkout: Path, root: Path) -> None:
    missing = checkout / "units" / "gitopsd.rules"
    missing.unlink()

    done = install(checkout, "--destdir", root)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {missing} is not there: this is not a whole checkout of gitopsd\n"
    assert not root.exists()
