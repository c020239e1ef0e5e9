"""The contract suite on every dataset that is found."""

import pytest

from mmbench.registry import find, names
from mmbench.testing import check_dataset


@pytest.mark.parametrize("name", names("dataset"))
def test_the_dataset_keeps_the_contract(name, tmp_path):
    check_dataset(find("dataset", name), tmp_path / "data")
