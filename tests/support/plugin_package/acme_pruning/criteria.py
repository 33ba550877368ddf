"""A criterion that looks at the hidden states alone, and one that looks at keys and at how many tokens stay."""

from typing import ClassVar, Literal

import torch

from autoprune.schedule import PluginCriterion, Reads


class Norm(PluginCriterion):
    """Keeps the tokens with the longest hidden states, or the shortest."""

    name: Literal["acme/norm"] = "acme/norm"
    order: Literal["longest", "shortest"] = "longest"

    source: ClassVar[str] = "made up for this test"

    @property
    def reads(self):
        return Reads.STATES

    @property
    def phrase(self):
        return "length of the hidden state"

    @staticmethod
    def score(inputs):
        lengths = inputs.hidden.float().norm(dim=-1)
        return lengths if inputs.options.order == "longest" else -lengths

    @staticmethod
    def macs(n_candidates, n_rows, width, heads, options):
        return n_candidates * width


class Scarcity(PluginCriterion):
    """Keeps the tokens with the longest keys of the layer before where fewer than five stay, else the shortest."""

    name: Literal["acme/scarcity"] = "acme/scarcity"

    source: ClassVar[str] = "made up for this test"

    @property
    def reads(self):
        return Reads.LAYER_BEFORE

    @staticmethod
    def score(inputs):
        lengths = inputs.key.float().norm(dim=-1).mean(1)
        return torch.where(inputs.targets[:, None] < 5, lengths, -lengths)

    @staticmethod
    def macs(n_candidates, n_rows, width, heads, options):
        return n_candidates * width
