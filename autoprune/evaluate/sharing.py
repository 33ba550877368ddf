"""How much of the work on candidates was shared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sharing:
    """Work on candidates in token-layers: one token that runs through one decoder layer, padding and decoding left out.

    Attributes:
        run: Token-layers that ran.
        by_prefix: Those of every candidate from its first stage on, on top of the dense pass.
        from_scratch: Those of every candidate from the first layer on.
    """

    run: int = 0
    by_prefix: int = 0
    from_scratch: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Share of the work that was taken from dense or from another candidate; None before the first candidate."""
        return 1 - self.run / self.from_scratch if self.from_scratch else None

    def __add__(self, other: Sharing) -> Sharing:
        return Sharing(self.run + other.run, self.by_prefix + other.by_prefix, self.from_scratch + other.from_scratch)

    def __sub__(self, other: Sharing) -> Sharing:
        return Sharing(self.run - other.run, self.by_prefix - other.by_prefix, self.from_scratch - other.from_scratch)
