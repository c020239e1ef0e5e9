"""The contract suite on every method that is found."""

import pytest

from mmbench.registry import find, names
from mmbench.testing import check_method


@pytest.mark.parametrize("name", names("method"))
def test_the_method_keeps_the_contract(name):
    check_method(find("method", name))
