"""From measures to prototypes: what is planted is found, and what cannot be told is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from support.evidence import check_evidence
from support.scenes import save_rows, save_tiny

import autoprune
from autoprune.analysis.codebook.build import beside, build_codebook
from autoprune.analysis.codebook.clustering import density_peaks
from autoprune.analysis.codebook.measures import TokenMeasures
from autoprune.analysis.codebook.rule import prototypes, redundant, thresholds
from autoprune.data.samples import load_samples
from autoprune.errors import DataError
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.results import summarise
from autoprune.models.loading import load_model

WIDTH = 16


def blobs(sizes: list[int], spread: float = 0.05) -> tuple[torch.Tensor, torch.Tensor]:
    """Points around orthogonal directions, shuffled, and which direction each has."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    points = torch.eye(WIDTH)[truth] + spread * torch.randn(len(truth), WIDTH, generator=generator)
    order = torch.randperm(len(truth), generator=generator)
    return points[order], truth[order]


def test_clusters_are_the_planted_ones() -> None:
    points, truth = blobs([40, 25, 10, 60])
    labels = density_peaks(points * torch.rand(len(points), 1).add(0.5), 4).labels
    pairs = set(zip(labels.tolist(), truth.tolist(), strict=True))
    assert len(pairs) == 4
    assert torch.equal(labels, density_peaks(points, 4).labels), "lengths do not count"


@pytest.mark.parametrize(("points", "count"), [(1, 1), (3, 1), (3, 3)])
def test_clusters_of_few_points(points: int, count: int) -> None:
    labels = density_peaks(torch.eye(WIDTH)[:points], count).labels
    assert sorted(set(labels.tolist())) == list(range(count))


def test_clusters_of_equal_points() -> None:
    assert set(density_peaks(torch.ones(7, WIDTH), 2).labels.tolist()) == {0, 1}


def test_prototypes_recur_and_are_redundant_more_than_by_chance() -> None:
    points, truth = blobs([40, 40, 40])
    # Direction 0: redundant in all images; 1: never; 2: redundant, but in one image only.
    flags = truth != 1
    groups = [("a" if t == 2 else f"image {i % 8}") for i, t in enumerate(truth.tolist())]
    taken = prototypes(points, flags, groups, 3, 512)
    assert set(truth[taken.tokens].tolist()) == {0}
    assert len(taken.tokens) == 40
    assert (taken.redundant, taken.clusters) == (80, (3, 1))
    few = prototypes(points, flags, groups, 3, 7).tokens
    assert len(few) == 7
    centre = torch.nn.functional.normalize(points[truth == 0].mean(0), dim=0)
    unit = torch.nn.functional.normalize(points, dim=1)
    assert (unit[few] @ centre).mean() > (unit[taken.tokens] @ centre).mean(), "the densest stay"


def test_every_cluster_has_its_share_of_few_prototypes() -> None:
    points, truth = blobs([60, 20, 80])
    taken = prototypes(points, truth != 2, [f"image {i % 8}" for i in range(160)], 3, 20)
    assert torch.bincount(truth[taken.tokens]).tolist() == [10, 10]


def test_a_pattern_of_one_image_is_refused() -> None:
    points, truth = blobs([40, 40])
    groups = ["a" if t == 0 else f"image {i % 8}" for i, t in enumerate(truth.tolist())]
    with pytest.raises(DataError, match="no kind of visual token is redundant in other images too"):
        prototypes(points, truth == 0, groups, 2, 512)


def measured(values: list[float], null: list[float], noise: float = 0.0) -> TokenMeasures:
    tables = [{name: torch.tensor(x) for name in ("confidence", "local", "global")} for x in (values, null)]
    return TokenMeasures(torch.zeros(len(values), WIDTH), *tables, noise, 1)


def test_thresholds_are_quantiles_of_the_null_and_not_below_the_noise() -> None:
    null = [i / 100 for i in range(101)]
    bounds = thresholds([measured([0.0], null[:50]), measured([0.0], null[50:])], 0.9)
    assert bounds == pytest.approx(dict.fromkeys(("confidence", "local", "global"), 0.9))
    assert thresholds([measured([0.0], null, noise=2.0)], 0.9) == pytest.approx(
        {"confidence": 0.9, "local": 2.0, "global": 2.0}
    )


def test_redundant_by_every_measure() -> None:
    part = measured([0.1, 0.2, 0.9, 0.1], [0.5])
    part.values["global"] = torch.tensor([0.1, 0.9, 0.1, 0.5])
    bounds = thresholds([part], 0.95)
    assert redundant([part, part], bounds).tolist() == [True, False, False, True] * 2


@pytest.mark.parametrize(
    ("values", "message"),
    [([0.9, 0.8], "no visual token is redundant.*confidence 0%"), ([0.1, 0.2], "all visual tokens are redundant")],
)
def test_nothing_to_tell_apart(values: list[float], message: str) -> None:
    part = measured(values, [0.5])
    with pytest.raises(DataError, match=message):
        redundant([part], thresholds([part], 0.95))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    loaded = load_model(save_tiny(tmp_path_factory.mktemp("tiny")))
    return loaded, load_samples(str(save_rows(tmp_path_factory.mktemp("rows"))))


@pytest.mark.parametrize("variant", ["sound", "paper"])
def test_a_codebook_of_a_data_set_runs_and_costs_what_it_says(tiny, variant: str, tmp_path) -> None:
    loaded, data = tiny
    seen = []
    book = build_codebook(
        loaded,
        data,
        variant=variant,
        quantile=0.999,
        probes=8,
        limit=20,
        on_sample=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (12, 12)
    path = tmp_path / "book.safetensors"
    criterion = book.save(path)
    with safe_open(path, "pt") as file:
        stored = file.get_tensor("prototypes")
        assert file.metadata()["format"] == "autoprune.codebook"
    assert stored.shape == (criterion.prototypes, 32)
    torch.testing.assert_close(stored.float().norm(dim=1), torch.ones(len(stored)), atol=2e-3, rtol=0)
    facts = json.loads(beside(path).read_text())
    assert facts["sha256"] == criterion.sha256
    assert facts["prototypes"] == len(facts["image_of_prototype"]) == len(stored) <= 20
    assert facts["images"] == [[image.sha256 for image in sample.images] for sample in data]
    assert facts["model_fingerprint"] == loaded.fingerprint
    assert facts["variant"] == variant
    assert set(facts["thresholds"]) == (
        {"confidence", "context"} if variant == "paper" else {"confidence", "local", "global"}
    )
    schedule = book.schedule(loaded, criterion, 0.5)
    check_evidence(schedule, "autoprune codebook", loaded, data)
    result = summarise(Evaluator(loaded, data, batch_size=4, max_new_tokens=2).evaluate(schedule))
    assert result.flops_ratio < 1
    with autoprune.apply(loaded.model, schedule):
        pass
    again = build_codebook(loaded, data, variant=variant, quantile=0.999, probes=8, limit=20)
    assert again.facts["image_of_prototype"] == book.facts["image_of_prototype"]
    torch.testing.assert_close(again.prototypes, book.prototypes)


def test_rows_that_make_no_codebook(tiny, tmp_path) -> None:
    loaded, data = tiny
    for options, rows, message in (
        ({"variant": "best"}, data, "variant: no such variant.*sound or paper"),
        ({"quantile": 1.0}, data, "quantile: must lie between 0 and 1"),
        ({}, type(data).of(data[:2], "one group"), "cannot be told from one"),
    ):
        with pytest.raises(DataError, match=message):
            build_codebook(loaded, rows, **options)
