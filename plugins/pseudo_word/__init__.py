"""Pseudo words of UMM-Diffusion (Ma et al. 2023, arXiv 2303.09319)."""
