"""Prepared pixels: tiles decoded once into uncompressed arrays; `dataset` reads and writes them."""
