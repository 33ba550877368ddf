from __future__ import annotations

from support.fronts import make_front

from autoprune.search.front import FrontFile


def test_the_made_up_front_has_the_shape_of_a_real_one():
    FrontFile.model_validate(make_front())
