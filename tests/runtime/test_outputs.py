"""What else a patched model gives back: hidden states, attention maps, a loss and its gradients."""

from __future__ import annotations

import pytest
import torch
from support.reference import layers_of
from support.rows import families_in
from support.schedules import FOR_MODES
from support.versions import needs
from support.zoo import FAMILIES, LAYERS, Zoo
from torch import Tensor

import autoprune

TOLERANCE = {"atol": 1e-4, "rtol": 0}
EACH_SCHEDULE = pytest.mark.parametrize("name", FOR_MODES)


def deepstack(zoo: Zoo) -> int:
    """How many layers are followed by an addition of the tower's features, to dropped tokens too."""
    return len(getattr(zoo.model.config.vision_config, "deepstack_visual_indexes", []))


@EACH_SCHEDULE
@pytest.mark.parametrize("family", families_in("hidden states"))
def test_hidden_states_are_whole(family: str, name: str) -> None:
    """Survivors have the reference's states, dropped tokens those they were dropped with."""
    row, wanted = FAMILIES[family], FOR_MODES[name]
    zoo = row.build()
    with row.reference(zoo.model, wanted, zoo.visual, zoo.inputs["attention_mask"]) as reference, torch.no_grad():
        expected = zoo.model(**zoo.inputs, output_hidden_states=True).hidden_states
    with autoprune.apply(zoo.model, wanted), torch.no_grad():
        got = zoo.model(**zoo.inputs, output_hidden_states=True).hidden_states
    assert len(got) == LAYERS + 1
    torch.testing.assert_close(got[0], expected[0], **TOLERANCE)
    valid = zoo.inputs["attention_mask"].bool()
    for i in range(LAYERS):
        dead = reference.dead[i]
        torch.testing.assert_close(got[i + 1][valid & ~dead], expected[i + 1][valid & ~dead], **TOLERANCE)
        if i not in (*range(1, deepstack(zoo) + 1), LAYERS - 1):  # the last one is after the final norm
            assert torch.equal(got[i + 1][dead], got[i][dead])


@EACH_SCHEDULE
@pytest.mark.parametrize("family", families_in("attention maps"))
def test_attention_maps_are_those_of_the_survivors(family: str, name: str) -> None:
    row, wanted = FAMILIES[family], FOR_MODES[name]
    zoo = row.build([[0, 1]])
    with row.reference(zoo.model, wanted, zoo.visual, zoo.inputs["attention_mask"]) as reference, torch.no_grad():
        expected = zoo.model(**zoo.inputs, output_attentions=True).attentions
    zoo.model.set_attn_implementation("eager")
    with autoprune.apply(zoo.model, wanted), torch.no_grad():
        got = zoo.model(**zoo.inputs, output_attentions=True).attentions
    for i in range(LAYERS):
        alive = ~reference.dead[i][0]
        torch.testing.assert_close(got[i], expected[i][:, :, alive][:, :, :, alive], **TOLERANCE)


def loss_and_gradients(zoo: Zoo, labels: Tensor) -> dict[str, Tensor]:
    loss = zoo.model(**zoo.inputs, labels=labels).loss
    loss.backward()
    grads = {n: p.grad.clone() for n, p in layers_of(zoo.model).named_parameters() if p.grad is not None}
    zoo.model.zero_grad()
    return {"loss": loss.detach(), **grads}


@EACH_SCHEDULE
@pytest.mark.parametrize("family", families_in("training"))
def test_the_loss_flows_back_as_in_the_reference(family: str, name: str) -> None:
    row, wanted = FAMILIES[family], FOR_MODES[name]
    zoo = row.build()
    labels = zoo.inputs["input_ids"].clone()
    labels[:, :-3] = -100
    zoo.model.train()
    with row.reference(zoo.model, wanted, zoo.visual, zoo.inputs["attention_mask"], labels != -100):
        expected = loss_and_gradients(zoo, labels)
    with autoprune.apply(zoo.model, wanted):
        got = loss_and_gradients(zoo, labels)
    assert got.keys() == expected.keys()
    assert len(got) > 5 * LAYERS
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, **TOLERANCE, msg=lambda text, key=key: f"{key}: {text}")


@needs("5.23", "gradient checkpointing runs hooks twice, which apply() refuses")
@pytest.mark.parametrize("family", families_in("training"))
def test_checkpointing_does_not_change_the_gradients(family: str) -> None:
    zoo = FAMILIES[family].build()
    labels = zoo.inputs["input_ids"].clone()
    labels[:, :-3] = -100
    zoo.model.train()
    with autoprune.apply(zoo.model, FOR_MODES["by scores"]):
        plain = loss_and_gradients(zoo, labels)
        zoo.model.gradient_checkpointing_enable()
        checkpointed = loss_and_gradients(zoo, labels)
    for key, value in plain.items():
        torch.testing.assert_close(checkpointed[key], value, atol=1e-6, rtol=0)
