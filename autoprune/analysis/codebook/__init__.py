"""Redundancy codebook ("Beyond Intermediate States", arXiv 2503.20540): prototypes of redundant visual tokens."""
