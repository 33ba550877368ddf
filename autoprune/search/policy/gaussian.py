"""An exact Gaussian process: its parameters from data, and its posterior over a growing pool of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from autoprune.search.policy.kernel import Matern, Profiles
from autoprune.search.policy.protocol import Floats

_PRIOR_SPREAD = np.array([1.0, 1.5, 1.0, 1.0, 1.5, 1.5, 2.0])
_PRIOR_WEIGHTS = (-2.0, 0.0, 0.0, -3.0)
_NUGGET_SHARE = 1e-3
_LINEAR_SHARE = 0.1
_JITTER = 1e-8
_STEPS = 40
_ROOM = 32


@dataclass(frozen=True)
class Observations:
    """Losses that are known, some only in part.

    Attributes:
        x: FloatArray[n, features].
        y: FloatArray[n], losses.
        noise: FloatArray[n], variance of what is not known of each.
    """

    x: Floats
    y: Floats
    noise: Floats


@dataclass(frozen=True)
class ProcessFit:
    """Parameters of a Gaussian process.

    Attributes:
        kernel: The kernel.
        mean: Loss far from all data.
    """

    kernel: Matern
    mean: float


def fit(profiles: Profiles, data: Observations, start: ProcessFit | None = None) -> ProcessFit:
    """Most probable parameters: marginal likelihood with a wide normal prior on every logarithm.

    Args:
        profiles: The features.
        data: At least one observation.
        start: An earlier fit, whose parameters are near.
    """
    variance = max(float(np.var(data.y)), 1e-6)
    prior = np.array(
        [np.log(variance), *_PRIOR_WEIGHTS, np.log(_NUGGET_SHARE * variance), np.log(_LINEAR_SHARE * variance)]
    )

    def objective(parameters: Floats) -> tuple[float, Floats]:
        value, slope = _negative_log_likelihood(Matern(profiles, parameters), data)
        off = (parameters - prior) / _PRIOR_SPREAD
        return value + 0.5 * float(off @ off), slope + off / _PRIOR_SPREAD

    first = prior if start is None else start.kernel.parameters
    bounds = [(p - 5 * s, p + 5 * s) for p, s in zip(prior, _PRIOR_SPREAD, strict=True)]
    found = minimize(
        objective,
        np.clip(first, [low for low, _ in bounds], [high for _, high in bounds]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": _STEPS},
    )
    kernel = Matern(profiles, np.asarray(found.x, dtype=float))
    return ProcessFit(kernel, _mean(kernel, data))


def _negative_log_likelihood(kernel: Matern, data: Observations) -> tuple[float, Floats]:
    k, slopes = kernel.covariance_and_slopes(data.x)
    factor = _factor(k + np.diag(data.noise))
    inverse = cho_solve((factor, True), np.eye(len(data.y)))
    ones = inverse.sum(1)
    residual = data.y - float(ones @ data.y) / float(ones.sum())
    alpha = inverse @ residual
    value = 0.5 * float(residual @ alpha) + float(np.log(np.diag(factor)).sum())
    inner = inverse - np.outer(alpha, alpha)
    return value, np.array([0.5 * float((inner * slope).sum()) for slope in slopes])


def _mean(kernel: Matern, data: Observations) -> float:
    k, _ = kernel.covariance_and_slopes(data.x)
    factor = _factor(k + np.diag(data.noise))
    solved = cho_solve((factor, True), np.stack([np.ones(len(data.y)), data.y], axis=1))
    return float(solved[:, 1].sum() / solved[:, 0].sum())


def _factor(matrix: Floats) -> Floats:
    jitter = _JITTER * float(np.mean(np.diag(matrix)))
    found: Floats = cholesky(matrix + jitter * np.eye(len(matrix)), lower=True)
    return found


class Posterior:
    """Loss of every candidate of a pool, given observations of some of them.

    An observation is added in O(n · pool), without solving again; `rewind` takes the last ones back.

    Args:
        fit: The parameters; they stay.
        pool: FloatArray[pool, features].
        places: IntArray[n], places in the pool of what was observed, each at most once.
        y: FloatArray[n], observed losses.
        noise: FloatArray[n], variance of what is not known of each.
    """

    def __init__(self, fit: ProcessFit, pool: Floats, places: NDArray[np.intp], y: Floats, noise: Floats) -> None:
        kernel = fit.kernel
        self._kernel, self._level = kernel, fit.mean
        self._scaled = kernel.scaled(pool)
        self._prior = kernel.variances(self._scaled)
        seen = self._scaled[places]
        size = len(places)
        covariances = kernel.between(seen, self._scaled)
        covariances[np.arange(size), places] += kernel.nugget
        factor = _factor(covariances[:, places] + np.diag(noise))
        self._rows = np.empty((size + _ROOM, len(pool)))
        self._rows[:size] = solve_triangular(factor, covariances, lower=True)
        self._whitened = np.empty(size + _ROOM)
        self._whitened[:size] = solve_triangular(factor, y - self._level, lower=True)
        self._size = size
        self.mean: Floats = self._level + self._whitened[:size] @ self._rows[:size]
        self.variance: Floats = self._prior - np.einsum("ij,ij->j", self._rows[:size], self._rows[:size])

    @property
    def sd(self) -> Floats:
        """FloatArray[pool]: standard deviation of each loss."""
        return np.sqrt(np.maximum(self.variance, 1e-12))

    def add(self, place: int, y: float, noise: float) -> None:
        """Adds an observation of the candidate at a place of the pool; of one seen before, an independent one."""
        size = self._size
        if size == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._whitened = np.concatenate([self._whitened, np.empty_like(self._whitened)])
        column = self._rows[:size, place]
        spread = float(self._prior[place]) + noise - float(column @ column)
        root = np.sqrt(max(spread, _JITTER * self._kernel.signal))
        covariance = self._kernel.between(self._scaled[place : place + 1], self._scaled)[0]
        covariance[place] += self._kernel.nugget
        row = (covariance - column @ self._rows[:size]) / root
        self._whitened[size] = (y - self._level - float(column @ self._whitened[:size])) / root
        self._rows[size] = row
        self._size += 1
        self.mean = self.mean + row * self._whitened[size]
        self.variance = self.variance - row * row

    def suppose(self, places: Sequence[int], noise: float) -> None:
        """Lowers the variances as if these candidates had been observed, each with the loss that is expected of it.

        The same as `add` one by one with the means, which then change nothing else; all at once it is a product of
        matrices, which at 64 candidates takes a fraction of the time.

        Args:
            places: Places in the pool, each at most once; of one that was observed, an independent observation.
            noise: Variance of what is not known of each.
        """
        if not len(places):
            return
        at = np.asarray(places, dtype=np.intp)
        rows, alone = self._rows[: self._size], np.arange(len(at))
        covariances = self._kernel.between(self._scaled[at], self._scaled)
        covariances[alone, at] += self._kernel.nugget
        covariances -= rows[:, at].T @ rows
        factor = _factor(covariances[:, at] + noise * np.eye(len(at)))
        new = solve_triangular(factor, covariances, lower=True)
        self.variance = self.variance - np.einsum("ij,ij->j", new, new)

    def copy_state(self) -> tuple[int, Floats, Floats]:
        """What `rewind` goes back to."""
        return self._size, self.mean, self.variance

    def rewind(self, state: tuple[int, Floats, Floats]) -> None:
        """Takes back what was added or supposed since `copy_state`."""
        self._size, self.mean, self.variance = state
