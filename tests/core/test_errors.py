"""Every error of Weft keeps its class, its message and its fields, in copies and in other processes."""

from __future__ import annotations

import copy
import importlib
import inspect
import itertools
import multiprocessing
import pickle
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import weft
from weft.core.errors import PluginError, UserError
from weft.core.runfile.strict_yaml import FileError, FileErrors, read_yaml
from weft.kernels.errors import KernelError

FILE_ERRORS = [
    FileError("run.yaml", 4, 3, "  box: 7", "a box", "7", "Four numbers."),
    FileError("run.yaml", 9, 1, "sedes: 1", "a known name", "'sedes'"),
]
ARGUMENTS: dict[str, object] = {"int": 7, "UserError": FILE_ERRORS[0], "list[FileError]": FILE_ERRORS}
"""What a constructor takes, by annotation; for a text it is the parameter's own name."""


def raised(kind: type[BaseException]) -> BaseException:
    if kind.__init__ in (Exception.__init__, ValueError.__init__):
        return kind("what went wrong")
    _, *parameters = inspect.signature(kind.__init__).parameters.values()
    return kind(*(ARGUMENTS.get(one.annotation, one.name) for one in parameters))


def modules_with_errors() -> Iterator[str]:
    """Those whose text defines an error: importing every module would take half a minute."""
    package = Path(weft.__file__).parent
    for path in itertools.chain.from_iterable(part.rglob("*.py") for part in package.iterdir()):
        if re.search(r"^class \w+\(.*(Error|Exception|Warning)\b", path.read_text(), re.MULTILINE):
            yield ".".join(("weft", *path.relative_to(package).with_suffix("").parts))


def errors_of_weft(base: type[BaseException] = BaseException) -> Iterator[type[BaseException]]:
    for kind in type.__subclasses__(base):
        if kind.__module__.startswith("weft."):
            yield kind
        yield from errors_of_weft(kind)


def same(error: BaseException, other: BaseException) -> bool:
    """Whether class, message and fields are equal; fields may themselves be errors."""
    fields, others = vars(error), vars(other)
    return (
        (type(error), str(error), list(fields)) == (type(other), str(other), list(others))
        and _equal(error.args, other.args)
        and all(_equal(fields[name], others[name]) for name in fields)
    )


def _equal(field: object, other: object) -> bool:
    if isinstance(field, BaseException) and isinstance(other, BaseException):
        return same(field, other)
    if isinstance(field, tuple) and isinstance(other, tuple):
        return len(field) == len(other) and all(map(_equal, field, other))
    return field == other


def test_every_error_survives_pickle_and_copy() -> None:
    for module in modules_with_errors():
        importlib.import_module(module)
    kinds = set(errors_of_weft())
    assert {UserError, PluginError, KernelError, FileError, FileErrors} < kinds
    for kind in kinds:
        error = raised(kind)
        error.add_note("seen at step 3")
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert same(pickle.loads(pickle.dumps(error, protocol)), error), (kind, protocol)
        assert same(copy.copy(error), error), kind
        assert same(copy.deepcopy(error), error), kind


class OwnError(UserError):
    """As a plugin's author may write one: no word of pickle, and a constructor of its own."""

    def __init__(self, layer: int, *, reason: str) -> None:
        super().__init__(f"layer {layer}", "a finite weight", reason)
        self.layer = layer


def test_an_authors_own_error_survives_too() -> None:
    error = OwnError(3, reason="NaN")
    assert same(pickle.loads(pickle.dumps(error)), error)


def test_an_error_reaches_the_caller_of_another_process_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("prompt: [a toy\n")
    with pytest.raises(FileErrors) as here:
        read_yaml(path)
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as pool, pytest.raises(FileErrors) as there:
        pool.submit(read_yaml, path).result()
    assert there.value.errors[0].line == 2
    assert same(there.value, here.value)
