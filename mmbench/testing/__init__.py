"""The contract suite, for the project's own tests and for those of a plug-in.

In a plug-in's test file:

    from mmbench.testing import check_method
    from my_package.my_method import MyMethod

    def test_my_method_keeps_the_contract():
        check_method(MyMethod, options={"width": 8})

The contract does not depend on widths: small ones keep it to seconds. A failure says which clause is broken.
"""

from mmbench.testing.datasets import check_dataset
from mmbench.testing.methods import check_method

__all__ = ["check_dataset", "check_method"]
