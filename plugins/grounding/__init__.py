"""Grounding: phrases, pictures and keypoints at places of the picture (GLIGEN, arXiv 2301.07093)."""
