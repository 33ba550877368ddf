"""Redundancy codebook ("Beyond Intermediate States", arXiv 2503.20540): visual tokens that say nothing anywhere."""
