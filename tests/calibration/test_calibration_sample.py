import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.calibration.statistics.sample import ContentSample


def sample_of(batches):
    sample = ContentSample()
    for batch in batches:
        sample.update(batch)
    return sample.tensors()[0]


IMAGES = torch.randn(600, 2, 3, generator=torch.Generator().manual_seed(0))


@given(st.randoms(use_true_random=False), st.integers(1, 97), st.sampled_from([5, 250, 600]))
@settings(max_examples=25, deadline=None)
def test_neither_order_nor_batches_matter(random, batch_size, count):
    images = IMAGES[:count]
    order = list(range(count))
    random.shuffle(order)
    assert torch.equal(sample_of(images[order].split(batch_size)), sample_of([images]))


@pytest.mark.parametrize("count", [1, 100, 600])
def test_samples_are_images_and_as_many_as_fit(count):
    sample = sample_of([IMAGES[:count]])
    assert len(sample) == min(count, 256)
    known = {tuple(image.flatten().tolist()) for image in IMAGES[:count]}
    chosen = [tuple(image.flatten().tolist()) for image in sample]
    assert set(chosen) <= known
    assert len(set(chosen)) == len(chosen)


def test_large_images_stay_within_memory():
    images = torch.randn(24, 3, 512, 512, generator=torch.Generator().manual_seed(1))
    sample = sample_of(images.split(5))
    assert len(sample) == 16
    assert torch.equal(sample, sample_of(images.flip(0).split(7)))


def test_repeated_images_do_not_disturb():
    repeated = IMAGES[:3].repeat(200, 1, 1)
    left = sample_of([repeated, IMAGES])
    right = sample_of([*IMAGES.flip(0).split(11), repeated.flip(0)])
    assert torch.equal(left, right)


def test_the_sample_does_not_alias_the_batch():
    batch = IMAGES[:10].clone()
    sample = ContentSample()
    sample.update(batch)
    expected = sample.tensors()[0]
    batch.zero_()
    assert torch.equal(sample.tensors()[0], expected)
    assert float(expected.abs().min()) > 0


def test_noncontiguous_images():
    images = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(2)).transpose(1, 2)
    assert torch.equal(sample_of([images]), sample_of([images.contiguous()]))


@given(st.lists(st.integers(0, 3), min_size=40, max_size=40), st.permutations(range(4)))
@settings(max_examples=25, deadline=None)
def test_merged_samples_are_the_sample_of_all(owners, order):
    sizes = [(3, 2), (2, 2), (4,), (5,), (1, 1), (2, 7)]
    samples = [torch.full((1, *sizes[i % 6]), float(i // 3)) + torch.arange(sizes[i % 6][-1]) for i in range(40)]
    whole, parts = ContentSample(), [ContentSample() for _ in range(4)]
    for sample, owner in zip(samples, owners, strict=True):
        whole.update(sample)
        parts[owner].update(sample)
    merged = ContentSample()
    for part in order:
        merged.merge(parts[part])
    assert torch.equal(merged.tensors()[0], whole.tensors()[0])


def test_merging_keeps_as_many_as_fit():
    merged = ContentSample()
    for part in IMAGES.split(150):
        other = ContentSample()
        other.update(part)
        merged.merge(other)
    assert torch.equal(merged.tensors()[0], sample_of([IMAGES]))


@given(
    st.randoms(use_true_random=False), st.integers(1, 97), st.sampled_from([5, 260, 263, 264, 300, 600]), st.booleans()
)
@settings(max_examples=25, deadline=None)
def test_held_out_samples_are_in_no_other(random, batch_size, count, training):
    images = IMAGES[:count]
    order = list(range(count))
    random.shuffle(order)
    shuffled, sample = ContentSample(training=training), ContentSample(training=training)
    sample.update(images)
    for batch in images[order].split(batch_size):
        shuffled.update(batch)
    held_out = sample.held_out()
    expected = min(count - 256, 64) if count >= 264 else 0
    assert (len(held_out[0]) if held_out else 0) == expected
    assert all(torch.equal(*pair) for pair in zip(held_out, shuffled.held_out(), strict=True))
    others = [*sample.tensors()[0], *(sample.tensors(training=True)[0] if training else ())]
    fitted = {tuple(image.flatten().tolist()) for image in others}
    assert not fitted & {tuple(image.flatten().tolist()) for image in (held_out[0] if held_out else ())}
    if training:
        assert len(sample.tensors(training=True)[0]) == count - (min(count - 256, 64) if count > 256 else 0)
