"""UNDERSTAND a model: what its visual tokens are needed for, layer by layer."""

from autoprune.analysis.withdrawal import withdrawal_kl

__all__ = ["withdrawal_kl"]
