import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from snnconvert.errors import InputError
from snnconvert.training.augmentation import augmented
from snnconvert.training.batches import Order, generator_of, training_batches
from snnconvert.training.finetune import Samples
from snnconvert.training.mixing import Partners


@given(st.integers(1, 50), st.integers(1, 12), st.integers(0, 5), st.integers(1, 4))
def test_processes_together_take_what_one_would(samples, batch, seed, processes):
    alone = Order(samples, batch * processes, seed)
    if alone.batch_size % processes:
        with pytest.raises(InputError, match="multiple"):
            Order(samples, batch * processes, seed, 0, processes)
        return
    for step in range(alone.steps):
        whole = alone.indices(1, step)
        shares = [Order(samples, batch * processes, seed, rank, processes).share(whole) for rank in range(processes)]
        assert sorted(index for share in shares for index in share) == sorted(whole)
        assert len({len(share) for share in shares}) == 1


def test_an_epoch_takes_no_sample_twice_and_each_epoch_has_its_own_order():
    order = Order(20, 6, 0)
    first, second = ([i for step in range(order.steps) for i in order.indices(epoch, step)] for epoch in (0, 1))
    assert len(set(first)) == len(first) == 18
    assert first != second
    assert Order(20, 6, 1).indices(0, 0) != order.indices(0, 0)


def test_augmentation_does_not_depend_on_the_number_of_processes():
    data = Samples(torch.rand(8, 1, 16, 16), torch.arange(8))
    (whole,) = training_batches(data, Order(8, 8, 3), 2, 0, "flip-crop", 1.0)
    for rank in range(2):
        (half,) = training_batches(data, Order(8, 8, 3, rank, 2), 2, 0, "flip-crop", 1.0)
        assert torch.equal(half.inputs, whole.inputs[rank::2])
        assert torch.equal(half.labels, whole.labels[rank::2])
        assert torch.equal(half.mixing.shares, whole.mixing.shares[rank::2])
        assert torch.equal(half.mixing.labels, whole.mixing.labels[rank::2])


@settings(deadline=None)
@given(st.integers(1, 9), st.floats(0.1, 10), st.integers(0, 3))
def test_a_mixed_sample_is_made_of_two(samples, alpha, step):
    data = Samples(torch.eye(40), torch.arange(40))
    (batch, *_) = training_batches(data, Order(40, samples, 1), 0, step, "none", alpha)
    for mixed, own, other, share in zip(
        batch.inputs, batch.labels, batch.mixing.labels, batch.mixing.shares, strict=True
    ):
        expected = share * torch.eye(40)[own] + (1 - share) * torch.eye(40)[other]
        torch.testing.assert_close(mixed, expected)
    assert sorted(batch.labels.tolist()) == sorted(batch.mixing.labels.tolist())


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_shares_of_mixed_samples_are_drawn_from_a_beta_distribution(alpha):
    shares = Partners.draw(20_000, alpha, generator_of(0, "mixup")).shares
    assert float(kstest(shares.double(), "beta", args=(alpha, alpha)).pvalue) > 1e-3


def test_samples_without_labels_are_mixed_too():
    (batch,) = training_batches(Samples(torch.eye(4)), Order(4, 4, 0), 0, 0, "none", 1.0)
    assert batch.labels is None
    assert batch.mixing.labels is None
    torch.testing.assert_close(batch.inputs.sum(1), torch.ones(4))


def test_a_mixed_sample_has_a_label_if_both_have_one():
    labels = torch.tensor([3, -1, 0, 1, -7, 2])
    (plain,) = training_batches(Samples(torch.eye(6), labels), Order(6, 6, 0), 0, 0, "none")
    assert sorted(plain.labels.tolist()) == [-1, -1, 0, 1, 2, 3]
    assert not plain.is_labelled
    (mixed,) = training_batches(Samples(torch.eye(6), labels), Order(6, 6, 0), 0, 0, "none", 1.0)
    for own, other, values in zip(mixed.labels, mixed.mixing.labels, mixed.inputs, strict=True):
        sources = values.nonzero().flatten()
        assert (int(own) >= 0) == bool((labels[sources] >= 0).all())
        assert other in labels.clamp(min=-1)


def test_a_batch_is_split_with_all_that_belongs_to_it():
    (batch,) = training_batches(Samples(torch.eye(5), torch.arange(5)), Order(5, 5, 0), 0, 0, "none", 1.0)
    parts = batch.split(2)
    assert [len(part.inputs) for part in parts] == [3, 2]
    for name in ("inputs", "labels"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    for name in ("shares", "labels"):
        assert torch.equal(torch.cat([getattr(part.mixing, name) for part in parts]), getattr(batch.mixing, name))


def test_images_are_mirrored_and_shifted_whole():
    images = torch.arange(1.0, 65.0).view(1, 1, 8, 8).expand(40, 1, 8, 8)
    mirrored = augmented(images, "flip", generator_of(0, "a"), 40, range(40))
    turned = [bool(torch.equal(image, images[0].flip(2))) for image in mirrored]
    assert all(is_turned or torch.equal(image, images[0]) for image, is_turned in zip(mirrored, turned, strict=True))
    assert 5 < sum(turned) < 35
    shifted = augmented(images, "crop", generator_of(0, "a"), 40, range(40))
    padded = torch.nn.functional.pad(images[:1], (1, 1, 1, 1))
    windows = [padded[0, :, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    found = {next(i for i, window in enumerate(windows) if torch.equal(window, image)) for image in shifted}
    assert len(found) > 5


def test_samples_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match="NaN"):
        next(training_batches(Samples(torch.full((2, 1, 4, 4), torch.nan)), Order(2, 2, 0), 0, 0, "none"))
    with pytest.raises(InputError, match="images"):
        next(training_batches(Samples(torch.zeros(2, 4)), Order(2, 2, 0), 0, 0, "flip"))
    with pytest.raises(InputError, match="expected a floating-point tensor"):
        next(training_batches([torch.zeros(2, dtype=torch.int64)], Order(1, 1, 0), 0, 0, "none"))
    with pytest.raises(InputError, match="no training samples"):
        Order(0, 4, 0)
    with pytest.raises(InputError, match="3 training samples and 2 labels"):
        Samples(torch.zeros(3, 1), torch.zeros(2))
