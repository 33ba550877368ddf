from __future__ import annotations

from types import SimpleNamespace

from autoprune.data.synthetic import synthetic_sample


def test_images_are_of_the_towers_size_all_different_and_always_the_same():
    config = SimpleNamespace(vision_config=SimpleNamespace(image_size=48))
    two = synthetic_sample(config, "What differs?", images=2)
    assert [image.size for image in two.images] == [(48, 48)] * 2
    assert two.images[0].sha256 != two.images[1].sha256
    assert two.digest == synthetic_sample(config, "What differs?", images=2).digest
    assert two.images[0] == synthetic_sample(config).images[0]


def test_a_tower_that_names_no_size_gets_the_usual_one():
    assert synthetic_sample(SimpleNamespace()).images[0].size == (224, 224)


def test_a_tower_that_names_height_and_width_gets_an_image_of_the_larger():
    config = SimpleNamespace(vision_config=SimpleNamespace(image_size=[32, 48]))
    assert synthetic_sample(config).images[0].size == (48, 48)
