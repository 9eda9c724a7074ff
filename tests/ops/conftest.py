"""Errors are tried as a user meets them: without the checked annotations."""

import jaxtyping
import pytest


@pytest.fixture
def unchecked():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
