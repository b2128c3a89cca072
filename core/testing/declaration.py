"""Checks of what a plugin says of itself: its name, its parameters, its documentation. Nothing is drawn."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
import subprocess
import sys
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from ..api.plugin import Plugin
from ..api.registry import Registry, registry
from ..errors import UserError
from ..provenance.run_file_writer import plugin_settings
from ..runfile.field_docs import described
from ..runfile.json_schema import section_schema
from .case import Case

SUMMARY = 120
"""Characters of the first line of a docstring, which is a row of `weft plugins list`."""


def check_can_be_registered(plugin: Plugin, case: Case) -> None:
    """The registry takes the class, finds it by its name, and no other installed plugin has the name."""
    cls = type(plugin)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", cls.name), f"'{cls.name}' is not lower case with underscores"
    alone = Registry([])
    try:
        alone.add(cls)
    except TypeError as error:
        raise AssertionError(str(error)) from None
    assert alone.plugin(cls.name, cls.kind) is cls
    fields = {field.name for field in dataclasses.fields(plugin)}
    assert set(cls.neutral) <= fields, "'neutral' names parameters that do not exist"
    places = {(one.value.__module__, one.value.__qualname__) for one in registry().claims(cls.name)}
    assert places <= {(cls.__module__, cls.__qualname__)}, f"another installed plugin is called '{cls.name}'"


def check_is_documented(plugin: Plugin, case: Case) -> None:
    """The class has a summary of one line, every parameter says what it is for, and `weft schema` can show both."""
    summary = type(plugin).summary()
    assert 0 < len(summary) <= SUMMARY, "the docstring's first line is empty or long"
    assert vars(type(plugin)).get("__doc__"), "the docstring is that of a base class"
    assert not summary.startswith(f"{type(plugin).__name__}("), (
        "the docstring is the one that dataclasses make"
    )
    for field in dataclasses.fields(plugin):
        docs = described(type(plugin), (field.name,))
        assert docs is not None
        assert docs.text, f"nothing says what the parameter '{field.name}' is for"
    try:
        json.dumps(section_schema(type(plugin), {}))
    except Exception as error:
        raise AssertionError(f"the parameters have no JSON Schema: {error}") from None


def check_survives_a_run_file(plugin: Plugin, case: Case) -> None:
    """Written as a section of a run file and read again, the plugin is equal: an image can be drawn again."""
    try:
        settings = json.loads(json.dumps(plugin_settings(plugin, str)))
        assert settings.pop("type") == plugin.name
        read = TypeAdapter(type(plugin)).validate_json(json.dumps(settings), strict=True)
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"the parameters cannot be written to a run file and read again: {error}"
        ) from None
    assert read == plugin, f"{plugin} comes back as {read}"


def check_survives_copying(plugin: Plugin, case: Case) -> None:
    """A copy is equal, and the plugin can be sent to another process."""
    try:
        sent = pickle.loads(pickle.dumps(plugin))
    except Exception as error:
        raise AssertionError(f"it cannot be pickled: {error}") from None
    assert sent == plugin, "what arrives in another process is not equal"
    assert copy.deepcopy(plugin) == plugin, "a copy is not equal"


def check_unknown_parameters_are_refused(plugin: Plugin, case: Case) -> None:
    """A parameter that does not exist is a `UserError` that names it, and parameters are frozen."""
    refusal = ""
    try:
        dataclasses.replace(plugin, no_such_parameter=1)  # type: ignore[call-arg]
    except UserError as error:
        refusal = str(error)
    except TypeError as error:
        raise AssertionError(f"not a UserError; is the class decorated with @weft.record? {error}") from None
    assert "no_such_parameter" in refusal, "an unknown parameter was accepted, or the error does not name it"
    for item in dataclasses.fields(plugin):
        try:
            setattr(plugin, item.name, getattr(plugin, item.name))
        except dataclasses.FrozenInstanceError:
            continue
        raise AssertionError(f"parameter '{item.name}' can be written")


def check_wrong_values_are_refused(plugin: Plugin, case: Case) -> None:
    """A parameter of the wrong type, and a number that is not finite, are a `UserError` that names the parameter."""
    hints = get_type_hints(type(plugin))
    for field in dataclasses.fields(plugin):
        wrong: list[Any] = [object()]
        wrong += [float("nan"), float("inf"), "a word"] if hints[field.name] in (int, float) else []
        for value in wrong:
            refusal = ""
            try:
                dataclasses.replace(plugin, **{field.name: value})
            except UserError as error:
                refusal = str(error)
            except Exception as error:
                raise AssertionError(
                    f"'{field.name}' of {value} is a {type(error).__name__}: {error}"
                ) from None
            assert field.name in refusal, (
                f"'{field.name}' may be {value}, or the error does not name the parameter: {refusal}"
            )


def check_import_is_free_of_torch(plugin: Plugin, case: Case) -> None:
    """Importing the plugin's module does not import torch, so that commands answer at once."""
    module = sys.modules[type(plugin).__module__]
    program = (
        "import importlib.util, sys\n"
        "try:\n"
        f"    spec = importlib.util.find_spec({module.__name__!r})\n"
        "except ModuleNotFoundError:  # its package is not on the path of a new process\n"
        "    spec = None\n"
        f"spec = spec or importlib.util.spec_from_file_location('plugin_under_check', {module.__file__!r})\n"
        "module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"importing {module.__name__} imports torch, or fails: {done.stderr}"
