"""What the robustness scripts share: mutated bytes, and the files that keep what was found."""
