"""The step that vLLM's model runner is about to run, as the model sees it: requests, lengths and blocks.

A model of vLLM is handed rows of tokens, without the requests that they belong to. The runner has a method for the call
of the model that is there to be extended; here it notes the step in the context of the pass.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vllm.forward_context import get_forward_context
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from autoprune.engines.vllm.flags import on_device
from autoprune.engines.vllm.steps import ScheduledRequest, Segment, visual_ranges
from autoprune.errors import PatchError

_NAME = "autoprune"


@dataclass(frozen=True)
class EngineStep:
    """One step of the runner.

    Attributes:
        requests: Its requests, in order.
        living: All requests that may run again.
        blocks: [R, n], their blocks, on the host.
        block_table: The same on the device.
        block_size: Slots in a block.
        group: The runner's group of attention layers.
    """

    requests: tuple[ScheduledRequest, ...]
    living: Collection[str]
    blocks: NDArray[np.int32]
    block_table: Tensor
    block_size: int
    group: Any

    def metadata(self, segment: Segment) -> tuple[Any, Tensor, Tensor]:
        """What the layers of a segment need to know: the backend's metadata, and slots and places of their rows."""
        device = self.block_table.device
        starts = torch.from_numpy(segment.starts).int()
        entries = torch.from_numpy(segment.entries).int()
        slots = on_device(torch.from_numpy(segment.slots(self.blocks, self.block_size)), device)
        places = on_device(torch.from_numpy(segment.places), device)
        common = CommonAttentionMetadata(
            query_start_loc=on_device(starts, device),
            query_start_loc_cpu=starts,
            seq_lens=on_device(entries, device),
            seq_lens_cpu_upper_bound=entries,
            num_reqs=len(self.requests),
            num_actual_tokens=int(segment.rows.sum()),
            max_query_len=int(segment.rows.max()),
            max_seq_len=int(segment.entries.max()),
            block_table_tensor=self.block_table,
            slot_mapping=slots,
            causal=True,
            is_prefilling=torch.tensor([request.computed < request.n_prompt for request in self.requests]),
            positions=places,
        )
        return self.group.build_metadata(common), slots, places


def current_step() -> EngineStep | None:
    """The step that runs now; None in the passes in which the engine measures itself."""
    step: EngineStep | None = get_forward_context().additional_kwargs.get(_NAME)
    return step


def note_steps() -> None:
    """From now on the runners of this process note each step for a model whose layers are pruned."""
    call = GPUModelRunner._model_forward
    if getattr(call, _NAME, False):
        return

    @functools.wraps(call)
    def noted(runner: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(runner.get_model(), "pruned_layers", None) is not None:
            get_forward_context().additional_kwargs[_NAME] = _step_of(runner)
        return call(runner, *args, **kwargs)

    setattr(noted, _NAME, True)
    GPUModelRunner._model_forward = noted


def _step_of(runner: Any) -> EngineStep:
    batch = runner.input_batch
    groups = [group for of_cache in runner.attn_groups for group in of_cache]
    if len(groups) != 1:
        raise PatchError(
            "layers of several kinds keep their entries in blocks of their own",
            field="groups of attention layers",
            value=len(groups),
            remedy="use a model whose layers all have full attention",
        )
    n, table = batch.num_reqs, batch.block_table[0]
    rows = np.diff(runner.query_start_loc.np[: n + 1])
    requests = tuple(
        ScheduledRequest(
            name=name,
            rows=int(rows[i]),
            computed=int(batch.num_computed_tokens_cpu[i]),
            n_prompt=int(batch.num_prompt_tokens[i]),
            visual=visual_ranges(_marks(feature.mm_position) for feature in runner.requests[name].mm_features),
        )
        for i, name in enumerate(batch.req_ids[:n])
    )
    return EngineStep(
        requests=requests,
        living=runner.requests.keys(),
        blocks=table.get_numpy_array()[:n],
        block_table=table.get_device_tensor(n),
        block_size=table.block_size,
        group=groups[0],
    )


def _marks(position: Any) -> tuple[int, Any]:
    """First place of an image and its length, or which of its places hold a feature."""
    return position.offset, position.length if position.is_embed is None else position.is_embed.tolist()
