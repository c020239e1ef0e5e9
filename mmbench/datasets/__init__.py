"""The datasets of mmbench, one a file; the contract is in `_dataset`."""
