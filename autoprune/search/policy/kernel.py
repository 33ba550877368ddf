"""The kernel of the loss over schedules: Matern 5/2 on their retention profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.schedule import Schedule, Stage
from autoprune.search.policy.protocol import Floats

_OFFSET = 8.0  # tokens; below that many alive, one more or less is no step of its own
_ROOT5 = np.sqrt(5.0)


def method_of(stage: Stage) -> str | None:
    """Label of a stage's selection method, criterion and merge; None if it selects nothing."""
    if not stage.selects or stage.criterion is None:
        return None
    return stage.criterion.label + (" + merge" if stage.merge else "")


@dataclass(frozen=True)
class Profiles:
    """The features of schedules: how many tokens are alive in each layer, and who dropped how many.

    Attributes:
        num_layers: Decoder layers.
        methods: Methods with a feature of their own; all others share one more.
    """

    num_layers: int
    methods: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of features."""
        return self.num_layers + len(self.methods) + 1

    def of(self, schedule: Schedule, alive: Sequence[float]) -> Floats:
        """FloatArray[size]: log2 of the share of visual tokens alive in each layer, then per method the log2 reduction.

        Args:
            schedule: The schedule.
            alive: Mean visual tokens before the first stage and after each stage.
        """
        levels = np.log2(np.asarray(alive, dtype=float) + _OFFSET)
        x = np.zeros(self.size)
        for stage, before, after in zip(schedule.stages, levels, levels[1:], strict=False):
            x[stage.layer : self.num_layers] = after - levels[0]
            method = method_of(stage)
            if method is not None:
                place = self.methods.index(method) if method in self.methods else len(self.methods)
                x[self.num_layers + place] += before - after
        return x

    def depths(self) -> Floats:
        """FloatArray[num_layers]: depth of each layer, -1 to 1."""
        return np.linspace(-1.0, 1.0, self.num_layers) if self.num_layers > 1 else np.zeros(1)


@dataclass(frozen=True)
class Matern:
    """A Matern 5/2 kernel and a linear one, on features with one weight each.

    The linear part holds what effects add up to, so that what is known of single stages carries over to schedules of
    several. The weights of layers follow a curve: their logarithm is quadratic in depth.

    Attributes:
        profiles: The features; all are 0 for the dense model.
        parameters: FloatArray[7]: log signal variance, three coefficients of the log weight of layers, the log weight
            of methods, log variance of what the features do not explain, log variance of the linear slopes.
    """

    profiles: Profiles
    parameters: Floats

    @property
    def signal(self) -> float:
        """Variance of the loss before anything is known."""
        return float(np.exp(self.parameters[0]))

    @property
    def nugget(self) -> float:
        """Variance that two schedules with equal features may still differ by."""
        return float(np.exp(self.parameters[5]))

    @property
    def linear(self) -> float:
        """Variance of the slope of the loss, per unit of the scaled features."""
        return float(np.exp(self.parameters[6]))

    @property
    def weights(self) -> Floats:
        """FloatArray[features]."""
        depth = self.profiles.depths()
        a, b, c, methods = self.parameters[1:5]
        layers = np.exp(a + b * depth + c * depth * depth) / self.profiles.num_layers
        rest = np.full(self.profiles.size - self.profiles.num_layers, np.exp(methods))
        return np.concatenate([layers, rest])

    def scaled(self, x: Floats) -> Floats:
        """FloatArray[n, features]: coordinates in which the kernel depends on the plain distance."""
        coordinates: Floats = x * np.sqrt(self.weights)
        return coordinates

    def between(self, a: Floats, b: Floats) -> Floats:
        """FloatArray[n, m]: covariances of two sets of `scaled` points."""
        covariances: Floats = self.signal * matern(squared_distances(a, b)) + self.linear * (a @ b.T)
        return covariances

    def variances(self, a: Floats) -> Floats:
        """FloatArray[n]: variances of `scaled` points before anything is known, nugget included."""
        found: Floats = self.signal + self.nugget + self.linear * (a * a).sum(1)
        return found

    def covariance_and_slopes(self, x: Floats) -> tuple[Floats, list[Floats]]:
        """Covariance [n, n] of points, nugget included, and its derivative by each parameter."""
        profiles, weights = self.profiles, self.weights
        scaled = self.scaled(x)
        square = squared_distances(scaled, scaled)
        k = self.signal * matern(square)
        r = np.sqrt(square)
        slope = self.signal * (-5.0 / 6.0) * (1 + _ROOT5 * r) * np.exp(-_ROOT5 * r)
        layers = slice(0, profiles.num_layers)
        by_layer = []
        for power in (0, 1, 2):
            # A weight of either sign: the distance is the difference of two sums of squares.
            own = x[:, layers] * np.sqrt(weights[layers])
            by_depth = profiles.depths() ** power
            by_layer.append(slope * _weighted_squares(own, by_depth) + self.linear * ((own * by_depth) @ own.T))
        methods = x[:, profiles.num_layers :] * np.sqrt(weights[profiles.num_layers :])
        by_method = slope * squared_distances(methods, methods) + self.linear * (methods @ methods.T)
        linear = self.linear * (scaled @ scaled.T)
        identity = self.nugget * np.eye(len(x))
        return k + linear + identity, [k, *by_layer, by_method, identity, linear]


def matern(square: Floats) -> Floats:
    """Matern 5/2 correlation from squared distances."""
    r = _ROOT5 * np.sqrt(square)
    found: Floats = (1.0 + r + (5.0 / 3.0) * square) * np.exp(-r)
    return found


def squared_distances(a: Floats, b: Floats) -> Floats:
    """FloatArray[n, m] of squared distances between two sets of points."""
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2.0 * (a @ b.T)
    found: Floats = np.maximum(squares, 0.0)
    return found


def _weighted_squares(x: Floats, weights: Floats) -> Floats:
    """FloatArray[n, n]: sum over features of weight times squared difference; weights of either sign."""
    weighted = x * weights
    own = (x * weighted).sum(1)
    found: Floats = own[:, None] + own[None, :] - 2.0 * (weighted @ x.T)
    return found
