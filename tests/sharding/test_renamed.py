"""Names of the release before."""

import pytest

from crossattn import sharding


@pytest.mark.parametrize(("former", "present"), [("Layout", sharding.ContextParallel)])
def test_former_names_work_with_a_warning(former, present):
    with pytest.warns(DeprecationWarning, match=f"{former} is now .*{present.__name__}"):
        assert getattr(sharding, former) is present
