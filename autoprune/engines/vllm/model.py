"""What a schedule adds to a model class of vLLM."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from autoprune.engines.vllm.flags import FiniteScores
from autoprune.engines.vllm.layers import PrunedLayers
from autoprune.engines.vllm.prompts import SPANS
from autoprune.engines.vllm.refusals import check_decoder, check_options
from autoprune.engines.vllm.running import current_step, note_steps
from autoprune.engines.vllm.serving import Serving, served
from autoprune.engines.vllm.shortened import shorten
from autoprune.errors import PatchError
from autoprune.runtime.criteria import prepared
from autoprune.schedule import Criterion, Schedule

log = logging.getLogger("autoprune")


class PrunedModel:
    """A mixin before a model class of vLLM; without a schedule the class is as it was.

    Attributes:
        served_schedule: The schedule; None = dense.
        pruned_layers: Where it acts between layers.
    """

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]  # the model class comes next
        config = vllm_config.model_config
        found = served(config)
        self.served_schedule: Schedule | None = None
        self.pruned_layers: PrunedLayers | None = None
        self._finite = FiniteScores("images")
        if found is None:
            return
        self.served_schedule, serving = found
        decoder = self._decoder
        check_options(vllm_config, serving)
        if serving is Serving.LAYERS:
            check_decoder(decoder, self.served_schedule.positions == "compact", config.uses_mrope)
        self._prepared = _read(self.served_schedule, decoder)
        if serving is Serving.LAYERS:
            self.pruned_layers = PrunedLayers(decoder, self.served_schedule, self._prepared)
            note_steps()
        log.info("a pruning schedule of %d stages acts on %s", len(self.served_schedule.stages), serving)

    @property
    def _decoder(self) -> Any:
        model: Any = self
        return model.language_model.model

    def embed_multimodal(self, **kwargs: Any) -> Any:
        """Features of images, [n, d] each; fewer where the schedule shortens prompts."""
        spans: Tensor | None = kwargs.pop(SPANS, None)
        model: Any = super()
        features = model.embed_multimodal(**kwargs)
        if self.served_schedule is None or self.pruned_layers is not None or not len(features):
            return features
        if spans is None:
            raise PatchError("features were made from something else than images", field="request")
        places = [(first, total) for first, total in spans.reshape(-1, 2).tolist()]
        left, broken = shorten(self.served_schedule.stages[0], list(features), places, self._prepared)
        self._finite.expect(broken, [f"{i} of {len(left)} that were encoded together" for i in range(len(left))])
        return left

    def embed_input_ids(self, *args: Any, **kwargs: Any) -> Any:
        """Embeddings of the rows of a step, images among them; called before each step, also where its pass is a graph.

        Raises:
            PatchError: features of an image were not finite.
        """
        self._finite.check()
        model: Any = super()
        return model.embed_input_ids(*args, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Final states of the rows of a step."""
        step = current_step() if self.pruned_layers is not None else None
        if self.pruned_layers is not None and step is not None:
            states = self.pruned_layers.run(step, inputs_embeds, positions)
            if states is not None:
                return states
        model: Any = super()
        return model.forward(input_ids, positions, intermediate_tensors, inputs_embeds, **kwargs)


def _read(schedule: Schedule, decoder: Any) -> Mapping[Criterion, Tensor]:
    """What criteria read from disk, on the device of the decoder."""
    device = next(decoder.parameters()).device
    found: dict[Criterion, Tensor] = {}
    for stage in schedule.stages:
        if stage.selects and stage.criterion is not None:
            # A codebook is not compared with the projector: the engine keeps its weights in another form.
            tensor = prepared(stage.criterion, decoder.config.hidden_size, _NoProjector())
            if tensor is not None:
                found[stage.criterion] = tensor.to(device)
    return found


class _NoProjector(nn.Module):
    """A decoder alone, as far as a codebook asks."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
