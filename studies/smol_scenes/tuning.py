"""Stage 2: LoRA through the whole decoder, with the projector, on packed questions; the tower stays as it is.

A step is a function of the seed and its number, and a checkpoint holds all else, so an interrupted training goes on as
if it had not been interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from asking import HELD_OUT, TASKS
from llava import OPENING
from optimizer import Masters
from packed import IGNORE, Packed, Packer
from peft import LoraConfig, PeftModel, get_peft_model
from pictures import Scene
from scans import scan_pool
from scenes import to_pixel_values
from seeing import draw
from texts import greedy_answers, practice_prompts, stacked
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel, LlamaForCausalLM, PreTrainedTokenizerBase
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

RANK = 16
WEIGHTS = {
    "color": 1.0,
    "kind": 1.0,
    "place": 1.0,
    "present": 1.0,
    "count": 1.0,
    "side": 1.2,
    "neighbor": 1.2,
    "larger": 1.0,
    "sum": 1.4,
    "extreme": 1.2,
    "successor": 1.4,
    "colors": 0.8,
    "ascending": 0.8,
    "caption": 0.6,
}
_SCENES, _TOKENS, _TEXTS = 4, 320, 3
_KEEP, _KEEP_EVERY = 2.0, 2  # weight of the original's distribution on text, and the steps between
_WARMUP = 60
_SAVE_EVERY = 420  # seconds


class MasteredAdam:
    """AdamW on float32 copies of bfloat16 parameters.

    Args:
        groups: Parameters and their learning rate at scale 1.
    """

    def __init__(self, *groups: tuple[Iterable[nn.Parameter], float]) -> None:
        self._rates = [rate for _, rate in groups]
        paired = [[(one, one.detach().float().clone()) for one in parameters] for parameters, _ in groups]
        self._masters = Masters(pair for pairs in paired for pair in pairs)
        copies = [{"params": [copy for _, copy in pairs]} for pairs in paired]
        self._adam = torch.optim.AdamW(copies, lr=1.0, betas=(0.9, 0.98), weight_decay=0.01)

    def step(self, scale: float) -> None:
        """Clip, update with the learning rates times `scale`, refresh the parameters, drop gradients."""
        self._masters.take_gradients()
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * scale
        self._adam.step()
        self._masters.refresh()

    def state(self) -> dict[str, object]:
        """What going on needs."""
        return {"masters": self._masters.copies, "adam": self._adam.state_dict()}

    def load(self, state: dict[str, object]) -> None:
        """Go on from a `state`."""
        masters = state["masters"]
        assert isinstance(masters, list)
        for copy, saved in zip(self._masters.copies, masters, strict=True):
            copy.copy_(saved)
        self._adam.load_state_dict(state["adam"])  # type: ignore[arg-type]  # as Adam itself wrote it
        self._masters.refresh()


def packed_logits(
    llama: LlamaForCausalLM,
    tower: CLIPVisionModel,
    projector: LlavaMultiModalProjector,
    opening: Tensor,
    pixels: Tensor,
    packed: Packed,
) -> Tensor:
    """Logits at the supervised tokens, float32 [tokens, vocabulary]: those of each question behind its picture alone.

    Args:
        llama: The decoder, with its adapter if it has one.
        tower: Sees the pictures.
        projector: From the tower's features to the decoder's.
        opening: Tokens before the picture, int64 [tokens].
        pixels: [scenes, 3, height, width].
        packed: The questions.
    """
    embed = llama.get_input_embeddings()
    with torch.no_grad():
        features = tower(pixel_values=pixels).last_hidden_state[:, 1:]
    visual = projector(features)
    rows, prefix = len(pixels), len(opening) + features.shape[1]
    embeddings = torch.cat([embed(opening).expand(rows, -1, -1), visual, embed(packed.ids)], 1)
    positions = torch.cat([torch.arange(prefix).expand(rows, -1), prefix + packed.offset], 1)
    hidden = llama.model(
        inputs_embeds=embeddings, position_ids=positions, attention_mask=packed.mask(prefix), use_cache=False
    ).last_hidden_state
    return llama.lm_head(hidden[:, prefix:][packed.target != IGNORE]).float()


class Tuner:
    """The parts of the model while they are tuned.

    Attributes:
        decoder: With its adapter.
        projector: Trained too.
    """

    def __init__(
        self,
        decoder: LlamaForCausalLM,
        tower: CLIPVisionModel,
        projector: LlavaMultiModalProjector,
        tokenizer: PreTrainedTokenizerBase,
        seed: int,
    ) -> None:
        self._seed, self._tokenizer, self._pool = seed, tokenizer, scan_pool("train")
        self._tower = tower.bfloat16().eval().requires_grad_(False)
        self._texts = greedy_answers(decoder.float(), tokenizer, practice_prompts(), 40)
        settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        torch.manual_seed(seed)
        adapted = get_peft_model(decoder.bfloat16(), settings, autocast_adapter_dtype=False)
        assert isinstance(adapted, PeftModel)
        self.decoder, self.projector = adapted.bfloat16(), projector.bfloat16()
        for layer in adapted.get_base_model().model.layers:
            layer.compile(dynamic=False)  # for the packed questions, which all have one shape: a fifth less time a step
        self._packer = Packer(tokenizer, WEIGHTS, _TOKENS)
        adapter = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
        self._optimizer = MasteredAdam((adapter, 8e-4), (projector.parameters(), 4e-4))
        self._opening = tokenizer(OPENING, add_special_tokens=False, return_tensors="pt").input_ids[0]

    def train(self, steps: int, folder: Path, milestone: Callable[[str], None]) -> None:
        """Train up to `steps`, from the checkpoint in `folder` if there is one."""
        checkpoint = folder / "checkpoint.pt"
        begun = 0
        if checkpoint.exists():
            saved = torch.load(checkpoint, weights_only=True)
            begun = saved["step"]
            self._optimizer.load(saved["state"])
        held = draw(24, scan_pool("validation"), np.random.default_rng([self._seed, 5]))
        last, drift = time.monotonic(), torch.zeros(())
        for step in range(begun, steps):
            rng = np.random.default_rng([self._seed, 4, step])
            scenes, images, _ = draw(_SCENES, self._pool, rng)
            packed = self._packer.pack(scenes, rng)
            logits = self._logits(to_pixel_values(images), packed)
            loss = F.cross_entropy(logits, packed.target[packed.target != IGNORE])
            loss.backward()
            if step % _KEEP_EVERY == 0:
                with torch.compiler.set_stance("force_eager"):
                    drift = self._drift(rng)
                    (_KEEP * drift).backward()
            self._optimizer.step(min(1.0, (step + 1) / _WARMUP) * (0.02 + 0.98 * _cosine(step / steps)))
            if step % 20 == 19:
                milestone(f"step {step + 1} loss {loss.item():.3f} text {drift.item():.4f}")
            if step % 100 == 99:
                with torch.compiler.set_stance("force_eager"):
                    milestone(f"    {self._accuracy(held[0], to_pixel_values(held[1]))}")
            if time.monotonic() - last > _SAVE_EVERY or step + 1 == steps:
                torch.save({"step": step + 1, "state": self._optimizer.state()}, checkpoint.with_suffix(".new"))
                checkpoint.with_suffix(".new").replace(checkpoint)
                last = time.monotonic()

    def _logits(self, pixels: Tensor, packed: Packed) -> Tensor:
        llama = self.decoder.get_base_model()
        return packed_logits(llama, self._tower, self.projector, self._opening, pixels.bfloat16(), packed)

    def _drift(self, rng: np.random.Generator) -> Tensor:
        """KL of the original's next word to the tuned one's, in nats, mean over some of its own texts."""
        rows = [self._texts[place] for place in rng.integers(len(self._texts), size=_TEXTS)]
        ids, mask = stacked(rows, self._tokenizer.pad_token_id)
        llama = self.decoder.get_base_model()
        seen = mask.bool()
        with torch.no_grad(), self.decoder.disable_adapter():
            original = llama.lm_head(llama.model(input_ids=ids, attention_mask=mask).last_hidden_state[seen])
        tuned = llama.lm_head(llama.model(input_ids=ids, attention_mask=mask).last_hidden_state[seen])
        target = original.float().log_softmax(-1)
        return F.kl_div(tuned.float().log_softmax(-1), target, reduction="batchmean", log_target=True)

    @torch.no_grad()
    def _accuracy(self, scenes: list[Scene], pixels: Tensor) -> str:
        parts = []
        for name, wordings in (("trained wordings", None), ("held-out wordings", HELD_OUT)):
            rng = np.random.default_rng(9)
            packed = self._packer.pack(scenes, rng, wordings) if wordings else self._packer.pack(scenes, rng)
            supervised = packed.target != IGNORE
            right = (self._logits(pixels, packed).argmax(-1) == packed.target[supervised]).float()
            task = packed.task[supervised]
            each = " ".join(f"{t} {right[task == n].mean():.2f}" for n, t in enumerate(TASKS))
            parts.append(f"{name}, tokens right {right.mean():.4f} | {each}")
        return "\n    ".join(parts)


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))
