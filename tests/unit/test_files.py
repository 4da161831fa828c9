"""Files below /etc/gitopsd: there as a whole with their mode, or not at all."""

import os
import stat
from pathlib import Path

import pytest

from gitopsd import files


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "conf.d"
    directory.mkdir()
    return directory / "blog.yaml"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_its_text_and_its_mode_whatever_the_umask(place: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        files.write(place, "text\n", mode=mode)
    finally:
        os.umask(before)
    assert place.read_text() == "text\n"
    assert stat.S_IMODE(place.stat().st_mode) == mode


def test_a_file_that_is_there_is_replaced_only_if_that_is_meant(place: Path) -> None:
    files.write(place, "first", mode=0o644)
    with pytest.raises(FileExistsError):
        files.write(place, "second", mode=0o644)
    assert place.read_text() == "first"
    files.write(place, "third", mode=0o600, replace=True)
    assert place.read_text() == "third"


def test_nothing_is_left_lying_about(place: Path) -> None:
    files.write(place, "first", mode=0o644)
    with pytest.raises(FileExistsError):
        files.write(place, "second", mode=0o644)
    assert sorted(path.name for path in place.parent.parent.rglob("*")) == ["blog.yaml", "conf.d"]


def test_removing_what_is_not_there_is_no_error(place: Path) -> None:
    files.write(place, "text", mode=0o644)
    files.remove(place, place.with_name("other"), place.parent / "nowhere" / "other")
    assert not place.exists()
