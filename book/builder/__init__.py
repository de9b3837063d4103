"""Builds the book: executes its notebooks, writes what its pages take from records, runs Sphinx."""
