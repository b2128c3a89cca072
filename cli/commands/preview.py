"""Draw the boxes, masks and reference images of a run file, before anything is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...core.api.registry import registry
from ...core.errors import UserError
from ...core.families import family_of
from ...core.report.scene_drawing import draw_scene
from ...core.runfile.run import Run
from ...core.storage.atomic import make_folder, write_image
from ...core.storage.strict_json import read_config
from ..exit_code import Exit
from ..options import Output, Overrides, PluginFiles, RunFile
from ..printing import out
from ..run_files import read_runs

UNKNOWN_SIZE = (512, 512)
"""Of a model whose configuration is not here yet: that of Stable Diffusion 1.x."""


def run(
    run_file: RunFile,
    output: Output = Path("previews"),
    overrides: Overrides = None,
    plugin_files: PluginFiles = None,
) -> Exit:
    """Draw every scene of a run file once; a swept setting of the scene makes another one."""
    runs = read_runs(run_file, overrides or (), plugin_files or ())
    scenes: dict[str, list[Run]] = {}
    for one in runs:
        scenes.setdefault(repr((one.scene, size_of(one))), []).append(one)
    make_folder(output, "--output")
    for number, alike in enumerate(scenes.values()):
        image = draw_scene(alike[0].scene, size_of(alike[0]), _small_print(alike))
        target = write_image(image, output, f"{run_file.stem}-{number:04d}")
        if number < 20:
            out.print(str(target))
    if len(scenes) > 20:
        out.print(f"... {len(scenes)} scenes in {output}")
    return Exit.OK


def size_of(run: Run) -> tuple[int, int]:
    """(height, width) of the images of a run; what it does not say is the model's own."""
    height, width = _native_size(run.model)
    return run.sampler.height or height, run.sampler.width or width


def _native_size(model: str) -> tuple[int, int]:
    card = registry().model(model)
    folder = Path(model) if card is None else card.folder
    try:
        unet, vae = (read_config(folder / part / "config.json") for part in ("unet", "vae"))
        size = family_of(unet).native_size(unet, vae)
    except (UserError, KeyError, TypeError, ValueError, OverflowError):
        return UNKNOWN_SIZE
    return size if all(8 <= side <= 4096 for side in size) else UNKNOWN_SIZE


def _small_print(runs: Sequence[Run]) -> list[str]:
    first = runs[0]
    height, width = size_of(first)
    seeds = len(first.seeds)
    named = [
        f"{kind}: {', '.join(one.name for one in plugins)}"
        for kind, plugins in (("conditioners", first.conditioners), ("guidance", first.guidance))
        if plugins
    ]
    scheduler = first.sampler.scheduler or "the model's scheduler"
    sampler = f"{width} x {height} pixels, {scheduler}, {first.sampler.steps} steps"
    count = f"{seeds} seed{'s' if seeds > 1 else ''}"
    variants = f", {len(runs)} variants" if len(runs) > 1 else ""
    return [f"{sampler}, {count}{variants}", "; ".join(named)]
