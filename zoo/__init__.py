"""Models as data: the tiny model, the world it was trained on, and configurations of Stable Diffusion 1.x."""

if not __name__.startswith("weft."):
    raise ImportError(f"import 'weft.zoo', not '{__name__}': the repository root must not be on sys.path")
