"""A method and a dataset for mmbench."""
