"""UNDERSTAND a model: what its visual tokens are needed for, layer by layer."""

from autoprune.analysis.withdrawal.sweep import WithdrawalSweep, withdrawal_kl, withdrawal_sweep

__all__ = ["WithdrawalSweep", "withdrawal_kl", "withdrawal_sweep"]
