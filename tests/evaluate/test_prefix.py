"""The recorded dense pass, on models that the evaluator's own tests do not reach."""

from __future__ import annotations

import pytest
import torch
from support.zoo import FAMILIES

from autoprune.evaluate.encoding import force
from autoprune.evaluate.prefix import DensePrefix


@pytest.mark.parametrize("family", ["llava", "video_llama_3"])
def test_logits_predict_the_continuations_also_where_a_model_gives_those_of_all_tokens(family):
    zoo = FAMILIES[family].build()
    forced = force(zoo.model, zoo.inputs, [[20, 30, 40], [50]], 0)
    prefix = DensePrefix.of(zoo.model, forced, ())
    assert prefix.logits.shape[:2] == forced.targets.shape
    positions = zoo.model._prepare_position_ids_for_generation(forced.inputs["input_ids"], dict(forced.inputs))
    with torch.no_grad():
        everything = zoo.model(**forced.inputs, position_ids=positions, use_cache=False).logits
    wanted = everything[:, -forced.width :][forced.valid]
    torch.testing.assert_close(prefix.logits[forced.valid], wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("entry", [0, 2, 5])
def test_a_rerun_runs_the_layers_from_its_entry_on_and_no_other(entry):
    zoo = FAMILIES["llava"].build()
    prefix = DensePrefix.of(zoo.model, force(zoo.model, zoo.inputs, [[20, 30], [50]], 0), ())
    layers = zoo.model.get_decoder().layers
    halved = [layers[i].register_forward_hook(lambda module, args, output: output / 2) for i in (2, 5)]
    with torch.no_grad():
        whole = zoo.model(
            **prefix.forced.inputs, position_ids=prefix.position_ids, logits_to_keep=prefix.forced.width
        ).logits
    again = prefix.rerun(entry)
    for handle in halved:
        handle.remove()
    valid = prefix.forced.valid
    assert torch.allclose(again[valid], whole[valid], atol=1e-5) == (entry <= 2)
    torch.testing.assert_close(prefix.rerun(entry)[valid], prefix.logits[valid], atol=1e-5, rtol=1e-5)
    assert all("forward" not in layer.__dict__ for layer in layers)
