"""Pictures: what is drawn in them."""

import numpy as np
import pytest
import torch
from helpers import evaluated

from cifar_lightning.figures import confusion_matrix


def test_confusion_matrix_in_the_picture() -> None:
    evaluation = evaluated(torch.eye(3)[[0, 1, 0, 2]], torch.tensor([0, 1, 1, 1]))
    figure = confusion_matrix(evaluation, ["a", "b", "c"], "title")
    axes = figure.axes[0]
    drawn = axes.images[0].get_array()
    assert drawn is not None
    shares = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0, 0, 0]])
    assert np.asarray(drawn) == pytest.approx(np.sqrt(shares))
    numbers = [text.get_text() for text in axes.texts]
    assert numbers == ["1", "0", "0", "1", "1", "1", "0", "0", "0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
