"""Processors as they load with and without torchvision, and errors that name the extra `vision`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from support.checkpoints import CHECKPOINTS
from support.checkpoints.rows import save_rows
from support.versions import needs
from support.zoo import FAMILIES, HYBRIDS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES as IMAGE_PROCESSORS
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES as PROCESSORS
from transformers.utils.import_utils import is_torchvision_available

from autoprune.data.samples import load_samples
from autoprune.errors import ModelError
from autoprune.evaluate.encoding import encode
from autoprune.models import loading
from autoprune.models.loading import load_model
from autoprune.models.vision import import_failure, install, remedy

MANUAL = Path(__file__).parents[2] / "autoprune" / "runtime" / "README.md"
OLDER = {"smolvlm": needs("5.23", "no image processor of SmolVLM's without torchvision")}
VIDEOS = [
    pytest.param(name, marks=OLDER.get(name, ()))
    for name, checkpoint in CHECKPOINTS.items()
    if checkpoint.videos is not None
]


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed")
@pytest.mark.parametrize("name", VIDEOS)
def test_without_torchvision_a_processor_takes_images_and_no_videos(name, tmp_path):
    processor = load_model(CHECKPOINTS[name].save(tmp_path)).processor
    inputs = encode(processor, load_samples(save_rows(tmp_path, "rows", seed=0)))
    assert isinstance(inputs["pixel_values"], torch.Tensor)
    assert not hasattr(processor, "video_processor")


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed")
def test_a_processor_that_needs_torchvision_altogether_says_what_to_install(tmp_path):
    with pytest.raises(
        ModelError, match=r"PixtralProcessor.*pip install .*\[vision\].*torchvision 0\.\d+ from where torch"
    ):
        load_model(CHECKPOINTS["mistral3"].save(tmp_path))


@pytest.mark.parametrize("package", ["torchvision", "num2words"])
def test_a_missing_package_of_the_processor_is_named_with_its_extra(package, model_folder, monkeypatch):
    def refuses(*args, **options):
        raise ImportError(f"The processor needs the `{package}` library but it was not found")

    monkeypatch.setattr(loading, "load_processor", refuses)
    with pytest.raises(ModelError, match=rf"{package}.*pip install .*\[vision\]"):
        load_model(model_folder)


def test_a_torchvision_that_does_not_fit_is_said_with_the_build_that_does(monkeypatch):
    monkeypatch.setattr("autoprune.models.vision.version", lambda package: "2.13.0+cpu")
    error = ModuleNotFoundError("Could not import module 'AutoProcessor'.")
    error.__cause__ = RuntimeError("operator torchvision::nms does not exist")
    said = str(import_failure(error, "all"))
    assert "torchvision::nms" in said
    assert "torchvision 0.28" in said
    assert "torch 2.13.0+cpu" in said


def test_other_errors_are_not_blamed_on_torchvision():
    assert remedy(ImportError("needs timm")) is None
    missing = str(import_failure(ModuleNotFoundError("No module named 'optuna'", name="optuna"), "search"))
    assert missing == f"needs the package optuna; {install('search')}"


@pytest.mark.parametrize(
    ("noted", "said"),
    [
        ('{"url": "file:///a%20b/autoprune", "dir_info": {"editable": true}}', "pip install '/a b/autoprune[all]'"),
        ('{"url": "file:///w/autoprune-1-py3-none-any.whl"}', "pip install '/w/autoprune-1-py3-none-any.whl[all]'"),
        ('{"url": "https://example.org/a.zip"}', "pip install 'autoprune[all] @ https://example.org/a.zip'"),
        (None, "pip install 'autoprune[all]'"),
    ],
)
def test_an_extra_is_installed_from_where_the_package_came_from(monkeypatch, noted, said):
    found = SimpleNamespace(read_text=lambda name: noted)
    monkeypatch.setattr("autoprune.models.vision.distribution", lambda name: found)
    monkeypatch.setattr("autoprune.models.vision._SOURCES", None)
    assert install("all") == said


def test_an_extra_is_installed_from_the_folder_that_the_package_runs_from():
    assert install("all") == f"pip install '{Path(__file__).parents[2]}[all]'"


@needs("5.23", "other processors have variants without torchvision")
@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed")
def test_the_manual_names_the_families_that_do_not_load_without_torchvision():
    text = MANUAL.read_text(encoding="utf-8").partition("### Without torchvision")[2]
    said = set(text.partition("build to take: ")[2].partition(".")[0].replace("\n", " ").split(", "))
    tested = {name for name in CONFIG_MAPPING_NAMES if name in FAMILIES | HYBRIDS}
    assert said == {name for name in tested if not _loads(name)} | {"mistral4"}  # takes Mistral 3's processor


def _loads(name):
    images = IMAGE_PROCESSORS.get(name)
    if images is not None and "pil" not in images:
        return False
    kind = getattr(transformers, PROCESSORS.get(name, ""), None)
    if kind is None:
        return True
    try:
        return "image_processor" in kind.get_attributes()
    except ImportError:  # a class that asks for torchvision as a whole
        return False
