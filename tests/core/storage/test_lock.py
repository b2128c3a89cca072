"""One writer a folder: a second one is refused at once, a dead one leaves nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from weft import UserError
from weft.core.storage.lock import only_writer

pytest.importorskip("fcntl")
HOLD = """
import sys, pathlib
from weft.core.storage.lock import only_writer
with only_writer(pathlib.Path(sys.argv[1]), "--output"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with only_writer(tmp_path, "--output"):
        refused = pytest.raises(
            UserError, match=r"--output: expected a folder of its own.*another run of weft"
        )
        with refused, only_writer(tmp_path, "--output"):
            pass
        (tmp_path / "other").mkdir()
        with only_writer(tmp_path / "other", "--output"):
            pass
    with only_writer(tmp_path, "--output"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another run of weft"), only_writer(tmp_path, "--output"):
            pass
        other.kill()
        other.wait()
        with only_writer(tmp_path, "--output"):
            pass
