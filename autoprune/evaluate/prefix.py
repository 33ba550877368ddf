"""The dense pass over a batch, recorded, so that a schedule runs only the layers from its first stage on.

The record holds the arguments of the text model, the output of every layer, the dense KV cache, and the scores that a
first stage at any layer would use. A replay calls the whole model with the recorded embeddings, so that its own loop,
norm, head and anything between layers stay in force; layers before the first stage return their recorded output.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from autoprune.evaluate.encoding import Forced
from autoprune.evaluate.memory import tensor_bytes
from autoprune.runtime import Replays, ScoreKey, record, replaying
from autoprune.runtime.decoder import decoder_layers, find_decoder
from autoprune.runtime.realign import cut_cache, forcing_cache, held_tensors
from autoprune.runtime.recurrence import MixerInputs, mixer_inputs
from autoprune.runtime.replay import captured_call, collected_outputs, handed_on, recorded_outputs, substituted_call
from autoprune.runtime.standing import Standing
from autoprune.schedule import Reads, Schedule, Stage

_FROM_IDS = ("per_layer_inputs",)
"""Arguments that a model makes from the ids of its prompt, and cannot make from embeddings that hold images."""


@dataclass
class Recorded:
    """Layer outputs and cache layers of a dense pass: large, and computed again from the rest of the record."""

    outputs: list[Any]
    layers: list[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors held."""
        return _nbytes(self.outputs, self.layers)


@dataclass(frozen=True)
class Node:
    """A recorded pass under some stages, from which every schedule that begins with them goes on.

    Attributes:
        stages: The stages that have run; none = the dense pass.
        outputs: Output of each layer, up to the last one from which a schedule may go on.
        layers: KV cache of each layer that `outputs` has; of a recurrent one what its mixer read.
        scores: Scores that a next stage would use.
        standing: Tokens alive behind the stages; None = all.
    """

    stages: tuple[Stage, ...]
    outputs: list[Any]
    layers: list[Any]
    scores: Mapping[ScoreKey, Tensor]
    standing: Standing | None = None

    def nbytes_beside(self, start: Node) -> int:
        """Bytes of what it holds and the node from which it went on does not."""
        known = {id(part) for part in (*start.outputs, *start.layers)}
        return _nbytes(
            [output for output in self.outputs if id(output) not in known],
            [layer for layer in self.layers if id(layer) not in known],
        )


@dataclass(frozen=True)
class Replay:
    """Result of one schedule on one batch.

    Attributes:
        logits: [B, width, vocabulary], the columns that predict the continuations.
        counts: {layer of a stage: visual tokens of each row alive after it}.
        layers: As `Node` has them, those that were not run included.
    """

    logits: Tensor
    counts: Mapping[int, tuple[int, ...]]
    layers: list[Any]

    def cut(self, config: Any, rows: Tensor, ends: Tensor, length: int) -> Any:
        """The complete cache of some rows, each up to a column of its own; arguments as of `cut_cache`."""
        return cut_cache(config, self.layers, rows, ends, length)


@dataclass
class DensePrefix:
    """The recorded dense pass over one batch.

    Attributes:
        model: The model.
        forced: The batch; its pixels are used no more.
        position_ids: Position ids [..., B, S] as `generate` would set them.
        text_call: Keyword arguments with which the text model was called.
        logits: [B, width, vocabulary], dense logits.
        scores: Scores that a first stage would use, for each of the keys.
        visual_mask: BoolTensor[B, S], visual tokens of the prompts.
        handed: Layers whose hidden states are the very output of the layer before.
        recorded: Layer outputs and cache; None after `forget`.
    """

    model: Any
    forced: Forced
    position_ids: Tensor
    text_call: dict[str, Any]
    logits: Tensor
    scores: dict[ScoreKey, Tensor]
    visual_mask: Tensor
    handed: frozenset[int]
    recorded: Recorded | None = None

    @classmethod
    def of(cls, model: Any, forced: Forced, keys: Iterable[ScoreKey]) -> Self:
        """Runs the dense model over a batch.

        Args:
            model: The model.
            forced: The batch.
            keys: (stage layer, criterion): scores to record.
        """
        decoder = find_decoder(model)
        positions: Tensor = model._prepare_position_ids_for_generation(forced.inputs["input_ids"], dict(forced.inputs))
        cache = forcing_cache(model.config)
        with (
            torch.no_grad(),
            captured_call(decoder) as call,
            record(model, keys) as recording,
            handed_on(decoder_layers(decoder)) as handed,
            collected_outputs(decoder_layers(decoder)) as outputs,
            mixer_inputs(decoder, lambda: None) as read,
            recording.prompt(forced.ends),
        ):
            logits = model(
                **forced.inputs,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=forced.width,
            ).logits[:, -forced.width :]  # some models give all columns
        scores, visual = dict(recording.scores), recording.visual_mask
        recorded = Recorded(outputs, _layers(cache, read))
        return cls(model, forced, positions, call, logits, scores, visual, frozenset(handed), recorded)

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The decoder layers of the model."""
        return decoder_layers(find_decoder(self.model))

    @property
    def nbytes(self) -> int:
        """Memory held: by layer outputs and cache, and by what they are computed from again, such as embeddings."""
        source = tensor_bytes(self.text_call, self.logits, self.scores, self.visual_mask, self.position_ids)
        return source + (0 if self.recorded is None else self.recorded.nbytes)

    def forget(self) -> None:
        """Drop layer outputs and cache; the next replay computes them again, without the vision tower."""
        self.recorded = None

    def root(self) -> Node:
        """The dense pass as the node from which all schedules start."""
        recorded = self.ensure_recorded()
        return Node((), recorded.outputs, recorded.layers, self.scores)

    def rerun(self, entry: int) -> Tensor:
        """Logits [B, width, vocabulary] with the layers from `entry` on run again, with the hooks they carry."""
        recorded, cache = self.ensure_recorded(), self.new_cache()
        known = zip(self.layers, recorded.outputs[:entry], strict=False)
        with torch.no_grad(), self._substituted(cache), recorded_outputs(known):
            return self.call(cache)

    def why_not_again(self) -> str | None:
        """Why the record is not enough to run the model again; None if it is. No layer runs for this."""
        try:
            again = self.rerun(len(self.layers))
        except (TypeError, ValueError) as error:  # models complain so about an argument that is missing
            return f"it cannot be run from recorded embeddings ({error})"
        valid = self.forced.valid
        return None if same_logits(again, self.logits, valid) else "it gives other logits from recorded embeddings"

    def ensure_recorded(self) -> Recorded:
        """Layer outputs and cache, computed again if they were dropped."""
        if self.recorded is None:
            self.record_again()
        assert self.recorded is not None  # it was just computed
        return self.recorded

    def record_again(self) -> Tensor:
        """Computes layer outputs and cache from the embeddings; the logits of this pass."""
        cache = self.new_cache()
        with (
            torch.no_grad(),
            self._substituted(cache),
            collected_outputs(self.layers) as outputs,
            mixer_inputs(find_decoder(self.model), lambda: None) as read,
        ):
            logits = self.call(cache)
        self.recorded = Recorded(outputs, _layers(cache, read))
        return logits

    @cached_property
    def tokens(self) -> tuple[int, int]:
        """Tokens of the batch, padding left out, and the visual ones among them."""
        return int(self.forced.inputs["attention_mask"].sum()), int(self.visual_mask.sum())

    def token_layers(self, counts: Mapping[int, Sequence[int]], layers: range) -> int:
        """Tokens that run through some layers, each counted once for each of them.

        Args:
            counts: {layer of a stage: visual tokens of each row alive after it}.
            layers: The layers.
        """
        alive, visual = self.tokens
        total, now = 0, alive
        for i in range(layers.stop):
            now = alive - visual + sum(counts[i]) if i in counts else now
            total += now if i >= layers.start else 0
        return total

    def call(self, cache: Any) -> Tensor:
        """Logits [B, width, vocabulary] of the model, called on the recorded embeddings with another cache."""
        known = {name: self.text_call[name] for name in _FROM_IDS if self.text_call.get(name) is not None}
        logits: Tensor = self.model(
            **known,
            inputs_embeds=self.text_call["inputs_embeds"],
            attention_mask=self.forced.inputs["attention_mask"],
            position_ids=self.position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=self.forced.width,
        ).logits[:, -self.forced.width :]
        return logits

    def new_cache(self) -> Any:
        """An empty cache of the model, as `forcing_cache` makes it."""
        return forcing_cache(self.model.config)

    def _substituted(self, cache: Any) -> AbstractContextManager[None]:
        """The text model is called as it was in the dense pass, with another cache."""
        return substituted_call(find_decoder(self.model), {**self.text_call, "past_key_values": cache})


class Replayer:
    """Runs schedules on recorded batches, each from a node on; a context manager that leaves no trace on the model.

    Args:
        model: The model.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._decoder = model, find_decoder(model)
        self._layers = decoder_layers(self._decoder)
        self._call: dict[str, Any] = {}
        self._stack = ExitStack()
        self._prefix: DensePrefix
        self._passes: Replays

    def __enter__(self) -> Self:
        # Before the patch, so that its own hooks see the recorded call.
        self._stack.enter_context(substituted_call(self._decoder, self._call))
        self._passes = self._stack.enter_context(replaying(self._model))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Within the block, the model is as it was before."""
        self._stack.close()
        yield
        self.__enter__()

    def over(self, prefix: DensePrefix) -> Node:
        """Turns to a batch; the node from which all schedules start."""
        if prefix.recorded is None:
            with self.suspended():
                prefix.ensure_recorded()
        self._prefix = prefix
        self._call.clear()
        self._call.update(prefix.text_call)
        return prefix.root()

    @property
    def depth(self) -> int:
        """Decoder layers of the model."""
        return len(self._layers)

    def bytes_of(self, start: Node, schedule: Schedule, end: int) -> int:
        """Most bytes that `extend` records."""
        layers = max(0, end - first_layer(schedule, start))
        return self._prefix.ensure_recorded().nbytes * layers // self.depth

    def run(self, schedule: Schedule, start: Node) -> Replay:
        """Runs a schedule to its end.

        Args:
            schedule: Without stages that keep everything; its stages begin with those of `start`.
            start: The node.

        Raises:
            PatchError: a criterion cannot be computed on this batch.
        """
        logits, layers, entry = self._pass(schedule, start, self.depth, (), self._prefix.handed)
        return Replay(logits, self._passes.standing.counts, [*start.layers[:entry], *layers[entry:]])

    def extend(self, schedule: Schedule, start: Node, end: int, keys: Collection[ScoreKey]) -> tuple[Node, Replay]:
        """Runs a schedule and records what schedules that begin with it share.

        Args:
            schedule: As in `run`.
            start: The node.
            end: One past the last layer that runs; before the last layer, the replay holds nothing of use.
            keys: (stage layer, criterion) of the stages that follow: scores to record.

        Raises:
            PatchError: a criterion cannot be computed on this batch.
        """
        entry = first_layer(schedule, start)
        with collected_outputs(self._layers[entry:end]) as outputs:
            logits, ran, _ = self._pass(schedule, start, end, keys)
        layers = [*start.layers[:entry], *ran[entry:end]]
        standing = self._passes.standing
        scores = {key: known for key, known in start.scores.items() if key[1].reads is Reads.TOWER}
        node = Node(
            schedule.stages,
            [*start.outputs[:entry], *outputs],
            layers,
            scores | {key: value for key, value in self._passes.scores.items() if key in keys},
            standing,
        )
        return node, Replay(logits, standing.counts, layers)

    def _pass(
        self,
        schedule: Schedule,
        start: Node,
        end: int,
        keys: Collection[ScoreKey],
        handed: Collection[int] = (),
    ) -> tuple[Tensor, list[Any], int]:
        entry, cache = first_layer(schedule, start), self._prefix.new_cache()
        self._call["past_key_values"] = cache
        # What the layers behind the last one return is not used: any output of the right shape does.
        outputs = self._prefix.ensure_recorded().outputs
        still = [*zip(self._layers, start.outputs[:entry], strict=False)]
        still += zip(self._layers[end:], outputs[end:], strict=True)
        self._passes.over(self._prefix.visual_mask, self._prefix.forced.ends)
        self._passes.follow(schedule, start.scores, start.standing, range(entry, end), keys, handed)
        with (
            torch.no_grad(),
            recorded_outputs(still),
            mixer_inputs(self._decoder, lambda: self._passes.columns) as read,
        ):
            logits = self._prefix.call(cache)
        return logits, _layers(cache, read), entry


def first_layer(schedule: Schedule, start: Node) -> int:
    """First layer that has to run for a schedule that goes on from a node."""
    stage = schedule.stages[len(start.stages)]
    criterion = stage.criterion
    if not stage.selects or criterion is None or criterion.reads is not Reads.LAYER_BEFORE:
        return stage.layer
    return stage.layer if (stage.layer, criterion) in start.scores else stage.layer - 1


def same_logits(found: Tensor, before: Tensor, valid: Tensor) -> bool:
    """Whether logits [B, width, vocabulary] agree where `valid`, but for what another shape rounds differently."""
    one, other = found[valid].float(), before[valid].float()
    return bool((one - other).abs().max() <= torch.finfo(before.dtype).eps ** 0.5 * other.abs().max())


def _layers(cache: Any, read: Mapping[int, MixerInputs]) -> list[Any]:
    return [read.get(i, layer) for i, layer in enumerate(cache.layers)]


def _nbytes(outputs: Iterable[Any], layers: Iterable[Any]) -> int:
    tensors = [_tensor(output) for output in outputs]
    tensors += [tensor for layer in layers for tensor in held_tensors(layer)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _tensor(output: Any) -> Tensor:
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    return tensor
