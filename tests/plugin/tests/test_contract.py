"""The plug-in keeps mmbench's contracts."""

import pytest
from example_plugin.plugin_dataset import PluginDataset
from example_plugin.plugin_method import PluginMethod

from mmbench.testing import check_dataset, check_method


@pytest.mark.parametrize("options", [{}, {"width": 3}])
def test_the_method_keeps_the_contract(options):
    check_method(PluginMethod, options=options)


def test_the_dataset_keeps_the_contract(tmp_path):
    check_dataset(PluginDataset, tmp_path)
