"""NaN and infinity: what the mask closes does not count, whatever it holds; what is open is never hidden."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.zoo import llava
from torch import Tensor

import autoprune
from autoprune import Schedule
from autoprune.errors import PatchError
from autoprune.runtime.criteria.attention import attention_received, better_rank
from autoprune.runtime.tap import Softmax
from autoprune.schedule import parse_criterion

BROKEN = [float("nan"), float("inf"), float("-inf")]
CRITERIA = {
    **{rows: {"name": "attention", "rows": rows} for rows in ("last", "text", "visual", "all", "raters")},
    "current": {"name": "attention", "rows": "text", "at": "current"},
    "two": {"name": "attention", "rows": "text", "combine": "visual"},
    "causal": {"name": "attention", "rows": "all", "normalize": "causal", "heads": "max"},
    **{name: {"name": name} for name in ("diversity", "encoder", "random", "uniform")},
}


def attention(mask: Tensor, **changed: tuple[int, float]) -> Tensor:
    """Scores of three samples of eight tokens; in the first, one position of query or key holds another value."""
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(3, 2, 8, 4, generator=generator) for name in ("query", "key")}
    for name, (position, value) in changed.items():
        tensors[name][0, :, position] = value
    rows = torch.ones(3, 8, dtype=torch.bool)
    rows[0, :3] = False
    return attention_received(**tensors, rows=rows, mask=mask, softmax=Softmax(), criterion=CRITERION, most=8)


CRITERION = parse_criterion({"name": "attention", "rows": "all"})


def left_padded(kind: str) -> Tensor:
    """The first three tokens of the first sample are padding, whose rows see nothing."""
    seen = torch.ones(8, 8, dtype=torch.bool).tril()[None, None].repeat(3, 1, 1, 1)
    seen[0, :, :, :3] = False
    return seen if kind == "bool" else torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))


@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("name", ["query", "key"])
def test_padding_counts_nothing_whatever_it_holds(name: str, value: float, kind: str) -> None:
    mask = left_padded(kind)
    clean = attention(mask)
    assert torch.isfinite(clean).all()
    assert clean[0, :3].tolist() == [0, 0, 0]
    for position in range(3):
        assert torch.equal(attention(mask, **{name: (position, value)}), clean)


@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("name", ["query", "key"])
def test_an_open_row_or_column_makes_its_sample_nan(name: str, value: float, kind: str) -> None:
    mask = left_padded(kind)
    clean, found = attention(mask), attention(mask, **{name: (5, value)})
    assert torch.isnan(found[0]).all()
    assert torch.equal(found[1:], clean[1:])


def test_a_key_that_no_product_shows_is_seen() -> None:
    """Minus infinity in every product weighs nothing, so that every weight is finite."""
    query, key = torch.ones(1, 1, 4, 2), torch.ones(1, 1, 4, 2)
    key[0, 0, 1] = float("-inf")
    rows = torch.tensor([[False, False, True, True]])
    assert torch.isnan(attention_received(query, key, rows, None, Softmax(), CRITERION, 2)).all()


def test_ranks_do_not_hide_what_was_ranked() -> None:
    first, second = torch.tensor([[0.1, float("nan"), 0.3]]), torch.tensor([[3.0, 2.0, 1.0]])
    assert torch.isnan(better_rank(first, second, torch.ones(1, 3, dtype=torch.bool)))[0].tolist() == [
        False,
        True,
        False,
    ]


def refused(wanted: Schedule, value: float) -> None:
    """A ragged, left-padded batch; the projector gives one number of one token of the second sample another value."""
    zoo = llava()

    def broken(module: torch.nn.Module, args: tuple, output: Tensor) -> Tensor:
        output = output.clone()
        output.view(-1, output.shape[-1])[-2, 3] = value
        return output

    with autoprune.apply(zoo.model, wanted) as patch, torch.no_grad():
        assert torch.isfinite(zoo.model(**zoo.inputs).logits[:, -1]).all()
        handle = zoo.model.model.multi_modal_projector.register_forward_hook(broken)
        with pytest.raises(PatchError, match="are not finite; check the model's weights"):
            zoo.model(**zoo.inputs)
        handle.remove()
        assert torch.isfinite(zoo.model(**zoo.inputs).logits[:, -1]).all()
    assert patch.report.active


@pytest.mark.parametrize("value", BROKEN[:2])
@pytest.mark.parametrize("name", CRITERIA)
def test_features_that_are_not_finite_are_refused(name: str, value: float) -> None:
    layer = 0 if CRITERIA[name]["name"] != "attention" or name == "current" else 2
    refused(Schedule(stages=[{"layer": layer, "keep": {"ratio": 0.4}, "criterion": CRITERIA[name]}]), value)


def test_a_codebook_hides_nothing_either(tmp_path: Path) -> None:
    path = tmp_path / "book.safetensors"
    save_file({"prototypes": torch.randn(3, 64)}, path)
    criterion = {"name": "codebook", "path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    refused(Schedule(stages=[{"layer": 0, "keep": {"ratio": 0.4}, "criterion": criterion}]), float("nan"))


def test_queries_of_the_layer_about_to_run_are_checked() -> None:
    zoo = llava()
    wanted = Schedule(stages=[{"layer": 2, "keep": {"ratio": 0.4}, "criterion": CRITERIA["current"]}])
    with autoprune.apply(zoo.model, wanted), torch.no_grad():
        zoo.model.get_decoder().layers[2].self_attn.q_proj.weight[0] = float("nan")
        with pytest.raises(PatchError, match="scores of the stage before layer 2 are not finite"):
            zoo.model(**zoo.inputs)
