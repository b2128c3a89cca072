"""Run files: YAML in, checked runs out, every error with its line. Free of torch."""
