"""Kosmos-2 and Kosmos-2.5: no placeholder id; a mask among the inputs says where the image is."""

from __future__ import annotations

from autoprune.runtime.families.family import Family

KOSMOS2 = Family(visual_masks=("image_embeds_position_mask",))
