"""Do images, JSON files and manifests of anybody ever break `weft show` or `weft repro`, or reach terminal or network?

python benchmarks/robustness/hostile_provenance.py --count 2000     # some minutes

Every folder is shown, and its image is drawn again as far as the check of its digests. Each must end with an exit code
of ours, without control characters in what is printed, without a socket, and with nothing written but the page.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from robustness_helpers.figures import keep
from robustness_helpers.mutation import mutate
from typer.testing import CliRunner

from weft import ClassifierFree, Scene, Subject, load
from weft.cli.app import app
from weft.core.jobs.gallery import PAGE
from weft.core.provenance.write import PROVENANCE, RUN_FILE
from weft.testing import random_model

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**400, 1e308, "", "x" * 100_000, "[/b]", "[bold]", "\x1b]0;x\x07", "\u202e", "\ud800",
    "../" * 50, "/dev/zero", "/etc/passwd", "~", "owner/Name_V5.1", "meta", "int8", "cuda:99999999",
    [], {}, [[]], {"": {}}, "\0",
)  # fmt: skip
PIECES = (b"[/b]", b"\x1b[31m", b"\xff", b"null", b"1e999", b"Infinity", b"NaN", b"{", b"}", b'"', b"\\ud800",
          b"\xe2\x80\xa8")  # fmt: skip
CODES = {0, 2, 3}
SECONDS = 10.0
CONTROL = {chr(code) for code in (*range(32), 127) if chr(code) not in "\n\t"}


def paths(data: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys of every value."""
    yield keys
    for key, value in (
        data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    ):
        yield from paths(value, (*keys, key))


def put(data: Any, keys: tuple[Any, ...], value: Any) -> Any:
    """The data with another value in a place."""
    if not keys:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[keys[0]] = put(copy[keys[0]], keys[1:], value)
    return copy


def attempts(
    sidecar: dict[str, Any], line: dict[str, Any], count: int, rng: random.Random
) -> Iterator[tuple[str, Any, bytes]]:
    """(what, a JSON file, a manifest): every value replaced by odd ones, then bytes."""
    manifest = json.dumps(line).encode() + b"\n"
    places = [
        (where, keys)
        for where, data in (("json", sidecar), ("manifest", line))
        for keys in paths(data)
        if keys
    ]
    for number in range(count // 2):
        where, keys = places[number % len(places)]
        odd = rng.choice(ODD)
        label = f"{where} {'.'.join(map(str, keys))}: {odd!r:.40}"
        if where == "json":
            yield label, put(sidecar, keys, odd), manifest
        else:
            yield label, sidecar, json.dumps(put(line, keys, odd)).encode() + b"\n"
    run_file = sidecar["run_file"].encode()
    for number in range(count - count // 2):
        mutated = mutate(run_file, [run_file, manifest], PIECES, rng).decode("utf-8", "replace")
        broken = mutate(manifest, [run_file, manifest], PIECES, rng) if number % 2 else manifest
        yield f"bytes {number}", {**sidecar, "run_file": mutated}, broken


def run(count: int, seed: int = 0) -> dict[str, Any]:
    """Show and check ``count`` folders; the slowest command in seconds of the processor."""
    rng = random.Random(seed)
    codes: dict[str, int] = {}
    wrong: list[dict[str, str]] = []
    slowest = 0.0
    with (
        tempfile.TemporaryDirectory() as name,
        mock.patch.object(socket, "socket", side_effect=PermissionError("network")),
    ):
        root = Path(name)
        random_model(root / "model")
        Image.new("RGB", (8, 8), "red").save(root / "toy.png")
        scene = Scene("a toy", [Subject("toy", images=root / "toy.png", box=(0, 0, 0.5, 1))])
        result = load(root / "model").generate(scene, [], [ClassifierFree()], steps=1, attention=False)
        folder = root / "out"
        (image,) = result.save(folder)
        sidecar = json.loads(image.with_suffix(".json").read_text())
        line = {"id": "1", "file": image.name, "sha256": sidecar["sha256"], "prompt": "a toy", "seed": 0,
                "sweep": {"a": 1}, "metrics": {"objects": 0.5}}  # fmt: skip
        runner = CliRunner()
        for number, (label, changed, manifest) in enumerate(attempts(sidecar, line, count, rng)):
            carried = PngInfo()
            if number % 2 and isinstance(changed.get("run_file"), str):
                carried.add_itxt(RUN_FILE, changed["run_file"].encode("utf-8", "replace").decode())
                carried.add_itxt(PROVENANCE, json.dumps(changed.get("provenance")))
            Image.new("RGB", (32, 32)).save(image, pnginfo=carried)
            image.with_suffix(".json").write_text(json.dumps(changed))
            (folder / "manifest.jsonl").write_bytes(manifest)
            before = {path: path.read_bytes() for path in folder.iterdir() if path.name != PAGE}
            for command in (["show", str(folder)], ["repro", str(image)]):
                started = time.process_time()
                # what is not refused is drawn: the drawing itself is not in question here
                with mock.patch("weft.core.jobs.reproduce.draw_again", side_effect=SystemExit(3)):
                    done = runner.invoke(app, command)
                slowest = max(slowest, time.process_time() - started)
                codes[str(done.exit_code)] = codes.get(str(done.exit_code), 0) + 1
                problem = ""
                if done.exit_code not in CODES:
                    problem = f"exit code {done.exit_code}: {done.output[-300:]}"
                elif done.exception is not None and not isinstance(done.exception, SystemExit):
                    problem = "".join(traceback.format_exception(done.exception))[-400:]
                elif CONTROL & set(done.output):
                    problem = f"control characters: {done.output[-200:]!r}"
                elif "network" in done.output:
                    problem = "a socket was asked for"
                if problem:
                    wrong.append({"attempt": f"{command[0]}, {label}", "problem": problem})
            after = {path: path.read_bytes() for path in folder.iterdir() if path.name != PAGE}
            if after != before:
                wrong.append({"attempt": label, "problem": "something was written"})
    return {"folders": count, "exit_codes": codes, "unhandled": len(wrong), "slowest_seconds": round(slowest, 2),
            "seed": seed, "first": wrong[:5]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    found = run(given.count, given.seed)
    holds = not found["unhandled"] and found["slowest_seconds"] < SECONDS
    keep("hostile_provenance", "0 unhandled, nothing written, fetched or obeyed", holds, found)


if __name__ == "__main__":
    main()
