import pytest


@pytest.fixture
def page(notebook_cells):
    """What the page on the theorems defines to measure them with."""
    names = ("04", "response", "affine", "temperature")
    return notebook_cells("theorems", *(f"theorems-{name}" for name in names))
