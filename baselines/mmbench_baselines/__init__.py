"""The methods of mmbench, one a file; the contract is in `method`."""
