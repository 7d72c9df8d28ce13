"""When another precision is close enough: by accuracy, average precision and the spread of differences, on plain numbers."""

import numpy as np
import pytest

from keras_cnn.serving.agreement import Agreement, targets_matrix


def single_label_agreement(expected, found, targets=None):
    expected = np.asarray(expected, "float32")
    truth = targets_matrix(targets, expected.shape, multi_label=False)
    return Agreement(expected, np.asarray(found, "float32"), truth, False, [f"{n}.jpg" for n in range(len(expected))])


def answers(classes, sure=0.6):
    """Probabilities of two classes with the given ones as the best."""
    scores = np.full((len(classes), 2), 1 - sure)
    scores[np.arange(len(classes)), classes] = sure
    return scores


def multi_label_agreement(expected, found, targets=None):
    truth = targets_matrix(targets, expected.shape, multi_label=True)
    return Agreement(expected, found, truth, True, [f"{n}.jpg" for n in range(len(expected))])


def precision_at_positives(scores, truth):
    """Average precision where no scores are equal: the mean, over the positives, of the precision down to each."""
    ranked = truth[np.argsort(-scores)]
    return (np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked == 1].mean()


@pytest.mark.parametrize(
    ("images", "lost", "max_accuracy_drop", "refused"),
    [
        (20, 0, 0.01, False),
        (20, 1, 0.01, False),  # one image, 5 %
        (20, 2, 0.01, True),
        (20, 2, 0.1, False),
        (500, 5, 0.01, False),
        (500, 6, 0.01, True),
        (500, 1, 0, True),  # none is none
        (500, 0, 0, False),
    ],
)
def test_a_share_of_the_images_or_one_may_be_lost(images, lost, max_accuracy_drop, refused):
    right = np.zeros(images, int)
    found = right.copy()
    found[:lost] = 1
    agreement = single_label_agreement(answers(right, 0.51), answers(found, 0.51), right)
    assert bool(agreement.objection("int8", max_accuracy_drop)) == refused
    assert agreement.metrics()["accuracy"] == pytest.approx(1 - lost / images)


def test_what_is_gained_is_set_against_what_is_lost():
    right, before, after = np.zeros(20, int), np.zeros(20, int), np.zeros(20, int)
    before[:4], after[4:8] = 1, 1
    agreement = single_label_agreement(answers(before), answers(after), right)
    assert agreement.objection("int8", 0.01) is None
    assert agreement.metrics()["agreement"] == pytest.approx(12 / 20)


def test_a_refusal_names_accuracies_images_and_a_way_out():
    right = np.zeros(20, int)
    found = right.copy()
    found[[3, 7, 11]] = 1
    text = single_label_agreement(answers(right), answers(found), right).objection("int8", 0.01)
    assert text == (
        "export: in int8 the network may lose 0.01 of its accuracy, or one image if that is more. Received: 0.8500 instead of "
        "1.0000, on 20 images; it answers otherwise for 3.jpg, 7.jpg, 11.jpg (3 images). Use another precision, or allow more "
        "(max_accuracy_drop=, or --max-accuracy-drop)."
    )


def test_one_image_far_off_is_no_reason():
    # A borderline image: 0.9 for the one class, then 0.9 for the other; all others alike.
    right = np.zeros(45, int)
    found = answers(right, 0.9)
    found[0] = found[0][::-1]
    agreement = single_label_agreement(answers(right, 0.9), found, right)
    assert agreement.differences.max() == pytest.approx(0.8) and agreement.percentile_99 == pytest.approx(0, abs=1e-6)
    assert agreement.objection("bfloat16", 0.01) is None


@pytest.mark.parametrize("images", [1, 2, 99, 100, 199, 200, 450])
def test_the_percentile_leaves_out_one_in_a_hundred_and_at_least_one(images):
    off = np.random.default_rng(0).permutation(images) / images
    scores = np.full((images, 2), 0.5)
    found = single_label_agreement(scores, scores + off[:, None])
    left_out = max(1, images // 100) if images > 1 else 0
    assert found.percentile_99 == pytest.approx(sorted(off)[-1 - left_out], abs=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.6])
def test_probabilities_that_are_far_apart_are_refused_whatever_the_accuracy(share):
    right = np.zeros(100, int)
    found = answers(right, 0.99)
    found[: int(share * 100)] = answers(right, 0.52)[: int(share * 100)] if share > 0.5 else [0.45, 0.01]
    text = single_label_agreement(answers(right, 0.99), found, right).objection("float16", 0.01)
    assert (
        "must give probabilities that differ by no more than 0.05 in the median and 0.5 in 99 % of the images" in text
    )
    assert "the probabilities differ most for 0.jpg (0." in text


def test_probabilities_that_are_nan_are_refused():
    right = np.zeros(5, int)
    found = answers(right)
    found[2] = np.nan
    assert "must give finite probabilities. Received: NaN for 1 images" in single_label_agreement(
        answers(right), found, right
    ).objection("float16", 0.5)


def test_without_targets_the_probabilities_of_the_model_stand_in():
    # Ten images between two classes of 0.5001 and 0.4999 change sides: the model itself loses next to nothing by that.
    right = np.zeros(20, int)
    found = right.copy()
    found[:10] = 1
    close = single_label_agreement(answers(right, 0.5001), answers(found, 0.5001))
    assert close.accuracy(close.expected) - close.accuracy(close.served) == pytest.approx(0.0001, rel=1e-3)
    assert close.objection("int8", 0.01) is None and "accuracy" not in close.metrics()
    sure = single_label_agreement(answers(right, 0.7), answers(found, 0.7))
    assert "0.5000 instead of 0.7000" in sure.objection("int8", 0.01)


def test_several_labels_are_judged_by_mean_average_precision():
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, (60, 4))
    expected = truth * 0.4 + random.uniform(0, 0.6, truth.shape)
    found = expected.copy()
    agreement = multi_label_agreement(expected, found, truth)
    measured = agreement.metrics()
    reference = np.mean([precision_at_positives(*columns) for columns in zip(expected.T, truth.T, strict=True)])
    assert measured["mean_average_precision"] == measured["mean_average_precision_before"] == pytest.approx(reference)
    assert agreement.objection("int8", 0.01) is None and measured["agreement"] == 1
    found[:, 2] = found[::-1, 2]
    worse = np.mean([precision_at_positives(*columns) for columns in zip(found.T, truth.T, strict=True)])
    text = multi_label_agreement(expected, found, truth).objection("int8", 0.01)
    assert f"of its mean average precision, or one image if that is more. Received: {worse:.4f} instead of" in text


def test_several_labels_without_targets_are_compared_with_the_predictions_of_the_model():
    random = np.random.default_rng(1)
    expected = random.uniform(0, 1, (60, 4))
    agreement = multi_label_agreement(expected, expected + 0.001)
    assert agreement.accuracy(expected) == 1 and agreement.objection("int8", 0.01) is None
    assert "mean average precision" in multi_label_agreement(expected, expected[::-1]).objection("int8", 0.01)


@pytest.mark.parametrize(
    ("targets", "multi_label", "message"),
    [
        ([0, 1], False, r"as many numbers as there are examples \(3\)"),
        ([0, 1, 4], False, r"class numbers from 0 to 3\. Received: targets=\[0, 1, 4\]"),
        ([0, 1, -1], False, r"class numbers from 0 to 3"),
        (["cat", 0, 1], False, r"class numbers from 0 to 3"),
        ([[1, 0, 0, 0]] * 3, False, r"class numbers from 0 to 3"),
        ([0, 1, 2], True, r"rows of 4 zeros and ones"),
        ([[1, 0, 0, 0], [1, 0], [0, 0, 0, 0]], True, r"rows of 4 zeros and ones"),
        ([[1, 0, 0, 2]] * 3, True, r"rows of 4 zeros and ones"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets, multi_label, message):
    with pytest.raises(ValueError, match=f"export: `targets` must be {message}"):
        targets_matrix(targets, (3, 4), multi_label)
