"""Rasters in folders: found by name, read by windows, checked, decoded to classes; `dataset` joins it."""
