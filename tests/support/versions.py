"""What older releases of transformers do not do, so that a test of it has no truth to compare with."""

from __future__ import annotations

import pytest
import transformers
from packaging.version import Version

INSTALLED = Version(transformers.__version__)


def needs(release: str, why: str) -> pytest.MarkDecorator:
    """Skip a test on releases of transformers before the first one that was seen to behave, saying what differs."""
    return pytest.mark.skipif(Version(release) > INSTALLED, reason=f"transformers < {release}: {why}")
