"""Training of conditioners over a frozen model: ``python -m weft.zoo.training.conditioners --help``."""
