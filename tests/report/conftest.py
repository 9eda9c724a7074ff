"""Fixtures of the report's tests."""

import pytest
from made_up import make_curves, make_gallery, make_results


@pytest.fixture(scope="session")
def suite():
    return make_results()


@pytest.fixture(scope="session")
def curves():
    return make_curves()


@pytest.fixture(scope="session")
def shown():
    return make_gallery()
