"""Columns in a terminal, where some characters are two cells wide and some none."""

from rich.cells import cell_len


def padded(text: str, width: int) -> str:
    """A text, with spaces after it up to so many cells."""
    return text + " " * (width - cell_len(text))


def widest(texts: list[str]) -> int:
    """How many cells the widest of them takes."""
    return max(map(cell_len, texts), default=0)
