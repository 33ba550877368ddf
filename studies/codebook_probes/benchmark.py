"""What probing one image costs in batches on one recorded pass, against one forward pass per probe, in CPU time.

python studies/codebook_probes/benchmark.py --probes 96        three rounds of each in turn, 75 s on one core
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from autoprune.analysis.codebook.measures import measure, places
from autoprune.analysis.codebook.neighbours import neighbourhoods
from autoprune.analysis.codebook.prompt import Probe, ProbedPrompt
from autoprune.evaluate.timing import take_turns

IMAGE, VISUAL, BEFORE, AFTER = 5, 576, 35, 20  # LLaVA-1.5's prompt, with a short question


def build() -> LlavaForConditionalGeneration:
    """Narrow and shallow; the tower's share of the work is a few percent, as in the 7B model."""
    torch.manual_seed(0)
    text = LlamaConfig(
        hidden_size=128, intermediate_size=344, num_hidden_layers=6, num_attention_heads=4, vocab_size=1000,
        max_position_embeddings=1024, initializer_range=0.08,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=336, patch_size=14,
        projection_dim=16,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE, vision_feature_layer=-1)
    return LlavaForConditionalGeneration(config).eval()


class Noted(ProbedPrompt):
    """A prompt that remembers what it was asked to run."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[Probe] = []

    def run(self, probes: Sequence[Probe]) -> Tensor:
        self.asked += probes
        return super().run(probes)


@torch.no_grad()
def one_by_one(model: Any, inputs: dict[str, Tensor], probes: Sequence[Probe], tower: bool) -> Tensor:
    """Logits [n, V] by a pass of the text model for each probe, on the tokens that it keeps and no others."""
    found, features = [], None
    ones = torch.ones_like(inputs["input_ids"])  # positions with gaps would be taken for several sequences without it
    visual = inputs["input_ids"][0] == IMAGE
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    for probe in probes:
        if tower or features is None:
            features = model.get_image_features(inputs["pixel_values"]).pooler_output[0]
        own = embeds.clone()
        own[0, visual] = torch.where(probe.filled[:, None], features.mean(0), features)
        rows = ~visual
        rows[visual] = probe.kept
        left = rows.nonzero()[:, 0]
        out = model(
            inputs_embeds=own[:, left],
            position_ids=left[None],
            attention_mask=ones[:, : len(left)],
            use_cache=False,
            logits_to_keep=1,
        )
        found.append(out.logits[0, -1])
    return torch.stack(found)


def authors_probes(indices: Sequence[int], side: int = 24) -> list[Probe]:
    """The authors' versions of one prompt: four for each probed patch of a grid, and the whole; 385 for 96 patches."""
    grid = torch.arange(side * side).view(side, side)
    nothing = torch.zeros(side * side, dtype=torch.bool)

    def keeping(places: Tensor) -> Probe:
        kept = nothing.clone()
        kept[places] = True
        return Probe(kept, nothing)

    found = [Probe(~nothing, nothing)]
    for index in indices:
        row, column = (min(max(place, 1), side - 2) for place in divmod(index, side))
        region = grid[row - 1 : row + 2, column - 1 : column + 2].flatten()
        whole = ~nothing
        whole[region] = False
        found += [keeping(torch.tensor([index])), keeping(region), keeping(region[region != index])]
        found.append(Probe(whole, nothing))
    return found


def seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probes", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = build()
    ids = torch.randint(10, 1000, (BEFORE + VISUAL + AFTER,))
    ids[BEFORE : BEFORE + VISUAL] = IMAGE
    inputs = {"input_ids": ids[None], "pixel_values": torch.randn(1, 3, 336, 336)}

    def batched() -> Noted:
        prompt = Noted(model, inputs)
        around = neighbourhoods(inputs, prompt.visual, 1)
        measure(prompt, around, places(prompt.features, options.probes), "sound")
        return prompt

    prompt = batched()
    probed = places(prompt.features, options.probes)
    authors = authors_probes(probed.tolist() if isinstance(probed, Tensor) else list(probed))
    sample = prompt.asked[:: max(1, len(prompt.asked) // 20)]
    apart = (prompt.run(sample) - one_by_one(model, inputs, sample, False)).abs().max()
    probes = [*prompt.asked[: -len(sample)]]
    print(f"{options.probes} visual tokens, {len(probes)} versions of the prompt; logits differ by {float(apart):.1e}")
    arms: dict[str, Callable[[], Any]] = {
        "in batches": batched,
        "one pass of the text model for each": partial(one_by_one, model, inputs, probes, False),
        "one pass of the whole model for each": partial(one_by_one, model, inputs, probes, True),
        f"the authors' {len(authors)} versions, one pass of the whole model for each": partial(
            one_by_one, model, inputs, authors, True
        ),
    }
    times = take_turns({name: partial(seconds, call) for name, call in arms.items()}, options.rounds, on_step=print)
    batch = times.pop("in batches")
    for name, other in times.items():
        ratio = statistics.median(b / a for a, b in zip(batch, other, strict=True))
        print(f"{name}: {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
