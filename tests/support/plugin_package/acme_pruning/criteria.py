"""A criterion that looks at the hidden states alone."""

from typing import ClassVar, Literal

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
