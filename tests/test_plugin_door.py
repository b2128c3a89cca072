"""`weft.plugin`: the names that plugin authors may rely on, and that built-ins use no others."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import weft.plugin

ROOT = Path(__file__).resolve().parent.parent

# A name leaves this list only after its deprecation; see CONTRIBUTING.md.
NAMES = [
    "AttentionMaps",
    "Batch",
    "BlockInsert",
    "BlockModule",
    "Box",
    "Branch",
    "ByPath",
    "Case",
    "Conditioner",
    "ContextTokens",
    "Contribution",
    "Energy",
    "Entry",
    "FeatureResiduals",
    "Fixed",
    "Grid",
    "Guidance",
    "ImageFeatures",
    "ImageSource",
    "ImageTower",
    "InputChannels",
    "LatentEdit",
    "LinearForm",
    "LowRank",
    "MAP_POSITIONS",
    "MapCall",
    "MapEdit",
    "MapFunction",
    "MapRows",
    "Metric",
    "ModelCard",
    "ModelView",
    "Plugin",
    "PluginError",
    "Prepared",
    "Prompt",
    "PromptTokens",
    "Refinement",
    "ResidualModule",
    "Residuals",
    "Scene",
    "SchedulerEntry",
    "SecondEvaluation",
    "SecondPrompt",
    "Site",
    "Step",
    "Region",
    "Subject",
    "SubjectPhrase",
    "TextEncoder",
    "TextRegion",
    "TextStates",
    "TokenEmbeddings",
    "UserError",
    "WeftError",
    "WeightDelta",
    "apply_deltas",
    "cross_attention_paths",
    "did_you_mean",
    "fill_module",
    "hookimpl",
    "locate",
    "open_image",
    "open_mask",
    "parametrize_with_checks",
    "random_model",
    "random_pipeline",
    "random_tower",
    "random_unet",
    "read_run_file",
    "read_tensors",
    "record",
    "require_conditioners",
    "resize",
    "self_attention",
    "to_tensor",
    "trained_networks",
]


def test_the_names_of_the_door() -> None:
    assert sorted(NAMES) == sorted(vars(weft.plugin)["__all__"])
    for name in NAMES:
        assert getattr(weft.plugin, name) is getattr(weft.plugin, name)


def test_the_door_opens_without_torch() -> None:
    code = "import sys; from weft.plugin import Conditioner, Guidance, hookimpl; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_built_in_plugins_enter_by_the_door() -> None:
    for path in (ROOT / "plugins").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                parts = (node.module or "").split(".")
                assert "core" not in parts, f"{path}:{node.lineno}"
