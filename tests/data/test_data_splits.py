import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.data.splits import check_counts, choose_indices, describe_split, split_indices
from snnconvert.errors import InputError

counts = st.integers(1, 400)
seeds = st.integers(0, 2**40)


@given(total=st.integers(2, 400), calibration=counts, evaluation=st.none() | counts, seed=seeds)
def test_split_is_disjoint_and_repeatable(total, calibration, evaluation, seed):
    split = split_indices(total, calibration, evaluation, seed)
    chosen = [*split.calibration, *split.evaluation]
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(range(total))
    assert 1 <= len(split.calibration) <= calibration
    assert 1 <= len(split.evaluation) <= (evaluation or total)
    assert list(split.evaluation) == sorted(split.evaluation)
    assert split == split_indices(total, calibration, evaluation, seed)


@given(calibration=counts, evaluation=counts, spare=st.integers(0, 100), seed=seeds)
def test_enough_images_give_both_wishes(calibration, evaluation, spare, seed):
    split = split_indices(calibration + evaluation + spare, calibration, evaluation, seed)
    assert (len(split.calibration), len(split.evaluation), split.halved) == (calibration, evaluation, False)


@given(total=st.integers(2, 400), calibration=counts, seed=seeds)
def test_without_a_wish_evaluation_gets_the_rest(total, calibration, seed):
    split = split_indices(total, calibration, None, seed)
    assert len(split.calibration) + len(split.evaluation) == total
    assert len(split.evaluation) >= len(split.calibration)
    assert split.halved == (2 * calibration > total)


@given(total=st.integers(0, 300), wanted=counts, seed=seeds)
def test_choice_has_no_repetition(total, wanted, seed):
    chosen = choose_indices(total, wanted, seed)
    assert len(set(chosen)) == len(chosen) == min(total, wanted)
    assert set(chosen) <= set(range(total))


def test_seed_matters():
    assert split_indices(100, 10, None, 0) != split_indices(100, 10, None, 1)


@pytest.mark.parametrize("total", [0, 1])
def test_too_few_to_split(total):
    with pytest.raises(InputError, match="can't be split"):
        split_indices(total, 1, 1, 0)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [((0, 1, 0), "calibration_images"), ((1, 0, 0), "evaluation_images"), ((1, None, -1), "seed")],
)
def test_counts_out_of_range(arguments, word):
    with pytest.raises(InputError, match=word):
        check_counts(*arguments)


def test_description_says_halved():
    assert "halved" in describe_split("the images", split_indices(10, 9, 9, 0), 0)
    assert "halved" not in describe_split("the images", split_indices(10, 2, 8, 0), 0)
