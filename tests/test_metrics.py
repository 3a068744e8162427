"""What is measured of a pass, by hand and against a reference."""

import pytest
import torch
from helpers import evaluated
from torchmetrics.functional.classification import multiclass_calibration_error

EVALUATION = evaluated(
    torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.0, 0.9]]),
    torch.tensor([0, 1, 1, 1]),
)


def test_evaluation_by_hand() -> None:
    assert EVALUATION.confusion_matrix.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert EVALUATION.accuracy == 0.5
    assert EVALUATION.accuracy_top5 is None  # of three
    assert EVALUATION.recall.tolist()[:2] == pytest.approx([1, 1 / 3])
    assert EVALUATION.recall[2].isnan()
    assert EVALUATION.precision.tolist() == pytest.approx([0.5, 1, 0])
    assert EVALUATION.f1.tolist() == pytest.approx([2 / 3, 0.5, 0])
    assert EVALUATION.mistakes(9).tolist() == [3, 2]
    assert EVALUATION.mistakes(1).tolist() == [3]
    # Wilson's interval of 81 in 263, as in Newcombe, Statistics in Medicine 17 (1998), table I
    right = torch.arange(263) < 81
    of_263 = evaluated(torch.tensor([[1.0, 0.0]]).expand(263, 2), (~right).long())
    assert of_263.accuracy_interval == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_the_first_five_of_six() -> None:
    of_six = torch.tensor([[0.3, 0.2, 0.1, 0.15, 0.2, 0.05]])
    for label in range(6):
        assert evaluated(of_six, torch.tensor([label])).accuracy_top5 == float(label != 5)


def test_calibration_against_a_reference() -> None:
    generator = torch.Generator().manual_seed(1)
    probabilities = torch.rand(500, 4, generator=generator).softmax(dim=1)
    labels = torch.randint(0, 4, (500,), generator=generator)
    evaluation = evaluated(probabilities, labels)
    confidence, accuracy, count = evaluation.reliability()
    by_bins = float(((confidence - accuracy).abs() * count).sum() / count.sum())
    reference = multiclass_calibration_error(probabilities, labels, 4, n_bins=15)
    assert evaluation.calibration_error == pytest.approx(float(reference))
    assert by_bins == pytest.approx(float(reference), abs=1e-6)
    assert int(count.sum()) == 500
