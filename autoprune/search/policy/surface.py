"""The loss of every candidate, kept up to date while measurements come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autoprune.search.policy.gaussian import Observations, Posterior, ProcessFit, fit
from autoprune.search.policy.kernel import Profiles
from autoprune.search.policy.protocol import Floats
from autoprune.search.policy.records import LossEstimate

REFIT_GROWTH = 1.3
_MOST_FITTED, _MOST_KEPT = 250, 500
_EXACT = 1e-6

Known = Mapping[int, LossEstimate]
"""What is known of candidates, by their place in the pool."""


class Surface:
    """A Gaussian process over a pool.

    Its parameters are fitted again whenever the observations have grown by a part; in between, observations are added.

    Args:
        profiles: The features.
    """

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles
        self._fit: ProcessFit | None = None
        self._fitted = 0
        self._posterior: Posterior | None = None
        self._inside: dict[int, LossEstimate] = {}

    @property
    def mean(self) -> Floats:
        """FloatArray[pool]: expected losses."""
        assert self._posterior is not None, "update() comes first"
        return self._posterior.mean

    @property
    def sd(self) -> Floats:
        """FloatArray[pool]: their standard deviation."""
        assert self._posterior is not None, "update() comes first"
        return self._posterior.sd

    def is_due(self, known: Known) -> bool:
        """Whether the parameters are to be fitted again."""
        return self._posterior is None or len(known) >= REFIT_GROWTH * self._fitted

    def refit(self, pool: Floats, known: Known, priority: Mapping[int, float]) -> None:
        """Fits the parameters and solves for the whole pool.

        Args:
            pool: FloatArray[pool, features].
            known: Observations.
            priority: How little each place matters; the first few hundred are enough.
        """
        few = sorted(known, key=lambda place: (priority[place], place))[:_MOST_FITTED]
        y, noise = self._arrays(few, known)
        self._fit = fit(self._profiles, Observations(pool[few], y, noise), self._fit)
        self._fitted = len(known)
        self.solve(pool, known, priority)

    def solve(self, pool: Floats, known: Known, priority: Mapping[int, float]) -> None:
        """Solves for another pool with the parameters as they are; arguments as of `refit`."""
        assert self._fit is not None, "refit() comes first"
        kept = sorted(known, key=lambda place: (priority[place], place))[:_MOST_KEPT]
        y, noise = self._arrays(kept, known)
        self._posterior = Posterior(self._fit, pool, np.array(kept, dtype=np.intp), y, noise)
        self._inside = dict(known)  # those left out are far off: they stay out until the next fit

    def update(self, known: Known) -> None:
        """Adds what was observed since; a candidate that is known better counts with what is new of it."""
        assert self._posterior is not None, "refit() comes first"
        for place, now in known.items():
            before = self._inside.get(place)
            noise = now.noise + _EXACT
            if before is None:
                self._posterior.add(place, now.loss, noise)
            elif before.noise > now.noise:
                old = before.noise + _EXACT
                precision = 1 / noise - 1 / old
                self._posterior.add(place, (now.loss / noise - before.loss / old) / precision, 1 / precision)
            else:
                continue
            self._inside[place] = now

    def suppose(self, places: Sequence[int]) -> None:
        """Takes candidates that run as if their losses came out as expected; `forget` takes it back."""
        assert self._posterior is not None, "update() comes first"
        self._posterior.suppose(places, _EXACT)

    def state(self) -> tuple[int, Floats, Floats]:
        """What `forget` goes back to."""
        assert self._posterior is not None, "update() comes first"
        return self._posterior.copy_state()

    def forget(self, state: tuple[int, Floats, Floats]) -> None:
        """Takes back what was supposed."""
        assert self._posterior is not None, "update() comes first"
        self._posterior.rewind(state)

    def _arrays(self, places: list[int], known: Known) -> tuple[Floats, Floats]:
        y = np.array([known[place].loss for place in places])
        noise = np.array([known[place].noise for place in places]) + _EXACT
        return y, noise
