"""Digests are of what was read, whatever has taken a file's place since."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest

from weft import UserError
from weft.core.storage import file_digests
from weft.core.storage.atomic import digest, discard_partial, write_file
from weft.core.storage.file_digests import FileDigests


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("at_once", [0, 1000])
def test_a_file_that_is_replaced_or_gone_keeps_its_digest(at_once: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(file_digests, "AT_ONCE", at_once)
    for name in ("same", "replaced", "gone"):
        (tmp_path / name).write_bytes(name.encode())
    read = FileDigests({name: tmp_path / name for name in ("same", "replaced", "gone", "never there")})
    write_file(b"other", tmp_path / "replaced")
    (tmp_path / "gone").unlink()
    wanted = {name: sha(name.encode()) for name in ("same", "replaced", "gone")}
    assert read.digests() == wanted
    assert read.digests() == wanted
    assert pickle.loads(pickle.dumps(read)).digests() == wanted


def test_a_file_that_was_written_to_has_none(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(file_digests, "AT_ONCE", 0)
    path = tmp_path / "model"
    path.write_bytes(b"before")
    read = FileDigests({"model": path})
    with open(path, "r+b") as file:
        file.write(b"longer than before")
    assert read.digests() == {}


def test_a_folder_has_one_of_all_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"x")
    before = FileDigests({"a": tmp_path / "a"}).digests()["a"]
    (tmp_path / "a" / "y").write_bytes(b"y")
    assert FileDigests({"a": tmp_path / "a"}).digests()["a"] != before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="expected a file, found a folder, a pipe"):
        digest(tmp_path / "pipe")


def test_what_kills_have_left_is_deleted(tmp_path: Path) -> None:
    for name in ("a.png.123.partial", "b.png"):
        (tmp_path / name).write_bytes(b"")
    discard_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b.png"]
