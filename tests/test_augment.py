"""Augmentation: what each transform does to pixels, seeds, the loader's hook."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib import data
from nnlib.backend.errors import BoundsError, DTypeError, Error, ShapeError

RNG = np.random.default_rng(0)


def batch(*shape, dtype=np.float32):
    return RNG.random(shape or (6, 3, 8, 8)).astype(dtype)


TRANSFORMS = {
    "crop": lambda seed: data.RandomCrop((7, 6), padding=2, generator=seed),
    "flip": lambda seed: data.RandomHorizontalFlip(generator=seed),
    "affine": lambda seed: data.RandomAffine(
        15, (0.2, 0.1), (0.8, 1.2), generator=seed
    ),
    "cutout": lambda seed: data.Cutout(3, p=0.7, generator=seed),
    "all": lambda seed: data.Compose(
        data.RandomCrop(8, 1), data.RandomHorizontalFlip(), generator=seed
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_seeds_kinds_and_purity(name):
    images = batch()
    before = images.copy()
    make = TRANSFORMS[name]
    one, two = make(5), make(5)
    first = one(images)
    np.testing.assert_array_equal(first, two(images))
    assert isinstance(first, np.ndarray) and first.dtype == np.float32
    assert not np.array_equal(one(images), first)
    assert not np.array_equal(make(6)(images), first)
    np.testing.assert_array_equal(images, before)
    assert not np.shares_memory(first, images)
    tensors = make(5)(nnlib.tensor(images))
    assert isinstance(tensors, nnlib.Tensor) and not tensors.requires_grad
    np.testing.assert_array_equal(tensors.array, first)
    pair = make(5)((images, "labels", 3))
    np.testing.assert_array_equal(pair[0], first)
    assert pair[1:] == ("labels", 3)
    assert make(0)(images[:0]).shape[0] == 0
    view = make(5)(np.asfortranarray(images))
    np.testing.assert_allclose(view, first, atol=1e-6)
    nnlib.manual_seed(1)
    a = make(None)(images)
    nnlib.manual_seed(1)
    np.testing.assert_array_equal(make(None)(images), a)


def test_crop_cuts_windows_of_the_padded_image():
    images = batch(200, 2, 5, 4)
    found = data.RandomCrop((4, 5), padding=1, fill=-1.0, generator=0)(images)
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
    seen = set()
    for image, whole in zip(found, padded, strict=True):
        places = [
            (i, j)
            for i in range(4)
            for j in range(2)
            if np.array_equal(whole[:, i : i + 4, j : j + 5], image)
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 8
    small = np.zeros((1, 1, 3, 3), np.float32)
    assert data.RandomCrop(3)(small).shape == (1, 1, 3, 3)
    with pytest.raises(ShapeError, match="5x5 does not fit into images of 3x3 with a"):
        data.RandomCrop(5)(small)
    with pytest.raises(
        ShapeError, match="RandomCrop: size: expected at least 1, got 0"
    ):
        data.RandomCrop(0)


def test_flip():
    images = batch(400, 1, 2, 3)
    found = data.RandomHorizontalFlip(0.3, generator=1)(images)
    mirrored = [
        np.array_equal(a, b[..., ::-1]) for a, b in zip(found, images, strict=True)
    ]
    same = [np.array_equal(a, b) for a, b in zip(found, images, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 0.2 < np.mean(mirrored) < 0.4
    np.testing.assert_array_equal(
        data.RandomHorizontalFlip(1)(images), images[..., ::-1]
    )
    whole = (images * 255).astype(np.uint8)
    assert data.RandomHorizontalFlip(1)(whole).dtype == np.uint8
    with pytest.raises(Error, match="p: expected a probability"):
        data.RandomHorizontalFlip(1.5)


def test_affine_against_known_maps():
    images = batch(2, 3, 7, 7)
    still = data.RandomAffine(0)(images)
    np.testing.assert_allclose(still, images, atol=1e-6)
    turned = data.RandomAffine((90, 90))(images)
    np.testing.assert_allclose(turned, np.rot90(images, axes=(2, 3)), atol=1e-5)
    half = data.RandomAffine((180, 180))(images.astype(np.float64))
    np.testing.assert_allclose(half, images[..., ::-1, ::-1], atol=1e-5)
    # Twice as large: the middle pixel stays, those beside it spread out.
    grown = data.RandomAffine(0, scale=(2, 2))(images)
    np.testing.assert_allclose(grown[..., 3, 3], images[..., 3, 3], atol=1e-6)
    np.testing.assert_allclose(grown[..., 3, 5], images[..., 3, 4], atol=1e-6)
    between = (images[..., 3, 3] + images[..., 3, 4]) / 2
    np.testing.assert_allclose(grown[..., 3, 4], between, atol=1e-6)


def test_affine_shifts_and_fills():
    images = np.ones((300, 1, 10, 10), np.float32)
    found = data.RandomAffine(0, (0.3, 0.0), fill=-2.0, generator=0)(images)
    # Every row alike: nothing moved up or down.
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :, :1], found.shape))
    assert found.min() == -2 and found.max() == 1
    filled = (found[:, 0, 0] < 1).sum(1)
    assert filled.max() in (3, 4) and (filled == 0).mean() < 0.1
    with pytest.raises(DTypeError, match="expected images of floats, got uint8"):
        data.RandomAffine(3)(images.astype(np.uint8))
    with pytest.raises(Error, match="scale: expected a positive range"):
        data.RandomAffine(3, scale=(0, 1))
    with pytest.raises(Error, match="translate: expected fractions"):
        data.RandomAffine(3, translate=(2, 0))
    with pytest.raises(Error, match="degrees: expected at least 0, .* got -3"):
        data.RandomAffine(-3)


def test_cutout_covers_one_square():
    images = np.ones((500, 2, 9, 6), np.float32)
    found = data.Cutout(3, p=0.5, fill=7.0, generator=0)(images)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    covered = found[:, 0] == 7
    sizes = covered.sum((1, 2))
    assert set(sizes) <= {0, 4, 6, 9} and 0.4 < (sizes == 0).mean() < 0.6
    for mask in covered[sizes > 0]:
        rows, columns = np.nonzero(mask)
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert area == mask.sum()
    assert covered.any(0).all()
    with pytest.raises(ShapeError, match="size: expected at least 1"):
        data.Cutout(0)


def test_normalize():
    pixels = RNG.integers(0, 256, (4, 3, 2, 2), dtype=np.uint8)
    mean, std = data.CIFAR10.mean, data.CIFAR10.std
    found = data.Normalize(mean, std)(pixels)
    column = np.array(mean)[:, None, None], np.array(std)[:, None, None]
    np.testing.assert_allclose(found, (pixels / 255 - column[0]) / column[1], atol=1e-5)
    assert found.dtype == np.float32
    scaled = data.Normalize(0.5, 2.0)(batch(2, 1, 2, 2, dtype=np.float64))
    assert scaled.dtype == np.float64
    with pytest.raises(ShapeError, match="mean: expected 1 or 3 figures, got 2"):
        data.Normalize((0.0, 1.0), 1.0)(pixels)
    with pytest.raises(Error, match="std: expected positive"):
        data.Normalize(0.0, 0.0)


def test_mixup():
    images = batch(50, 1, 2, 2)
    labels = RNG.integers(0, 10, 50)
    mixed, targets = data.MixUp(10, generator=0)((images, labels))
    assert targets.shape == (50, 10) and targets.dtype == np.float32
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    share = np.unique(targets[np.arange(50), labels].round(5))[0]
    other = (mixed - share * images) / (1 - share)
    near = abs(other[:, None] - images[None]).max((2, 3, 4)).min(1)
    assert near.max() < 1e-3 and sorted(targets.argmax(1)) is not None
    logits = nnlib.zeros(50, 10)
    x, soft = data.MixUp(10, generator=0)((nnlib.tensor(images), nnlib.tensor(labels)))
    np.testing.assert_array_equal(x.array, mixed)
    loss = nnlib.nn.functional.cross_entropy(logits, soft)
    assert loss.item() == pytest.approx(np.log(10), rel=1e-5)


def test_mixup_shares_follow_their_distribution():
    for alpha in (0.1, 0.4, 1.0, 3.0):
        mix = data.MixUp(2, alpha, generator=3)
        drawn = np.array([mix._beta() for _ in range(2000)])
        assert abs(drawn.mean() - 0.5) < 0.03
        assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_steps_may_come_as_a_list():
    images = batch()
    steps = [data.RandomCrop(8, 1), data.RandomHorizontalFlip()]
    found = data.Compose(steps, generator=5)(images)
    np.testing.assert_array_equal(found, TRANSFORMS["all"](5)(images))
    with pytest.raises(DTypeError, match="Compose: steps: number 1 is no transform"):
        data.Compose(steps[0], 3)


def test_mixup_errors():
    images, labels = batch(3, 1, 2, 2), np.array([0, 1, 5])
    with pytest.raises(BoundsError, match="labels: expected 0 to 4, got 0 to 5"):
        data.MixUp(5)((images, labels))
    with pytest.raises(ShapeError, match=r"expected a batch \(images, labels\)"):
        data.MixUp(5)(images)
    with pytest.raises(DTypeError, match="MixUp: expected images of floats"):
        data.MixUp(9)((images.astype(int), labels))
    for arguments in ((5, 0.0), (5, 9.0)):
        with pytest.raises(Error, match="alpha"):
            data.MixUp(*arguments)


def test_rank_is_checked():
    with pytest.raises(ShapeError, match=r"expected images \(N, C, H, W\), got \(3, 8"):
        data.RandomCrop(2)(np.zeros((3, 8, 8)))
    with pytest.raises(ShapeError, match="got list|got str"):
        data.RandomCrop(2)("images")


def test_loader_transforms_batches():
    digits = data.Digits().to_tensors()
    steps = data.Compose(data.RandomCrop(8, 1), data.MixUp(10), generator=4)
    loader = data.DataLoader(digits, 100, transform=steps)
    images, targets = next(iter(loader))
    assert images.shape == (100, 1, 8, 8) and targets.shape == (100, 10)
    assert len(list(loader)) == len(loader) == 18
    lists = data.DataLoader([1, 2, 3], 2, transform=lambda x: x * 10)
    assert [b.tolist() for b in lists] == [[10, 20], [30]]


@pytest.mark.cuda
@pytest.mark.parametrize("name", TRANSFORMS)
def test_cuda_gives_what_the_cpu_gives(name):
    images = batch()
    there = TRANSFORMS[name](2)(nnlib.tensor(images, device="cuda"))
    assert there.is_cuda
    here = TRANSFORMS[name](2)(images)
    np.testing.assert_allclose(there.cpu().array, here, atol=1e-5)


def test_bfloat16_images_are_floats():
    images = nnlib.tensor(batch(2, 3, 8, 8)).bfloat16()
    for step in (
        data.Normalize((0.5, 0.4, 0.3), 0.2),
        data.RandomAffine(10, generator=0),
        data.Cutout(3, generator=0),
    ):
        narrow = step(images)
        assert narrow.dtype == nnlib.bfloat16
        if isinstance(step, data.Normalize):
            want = step(images.float())
            np.testing.assert_allclose(narrow.float().array, want.array, 0, 0.05)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: data.RandomCrop(2.5), DTypeError, "size: expected an int or 2"),
        (lambda: data.RandomCrop((3, 3, 3)), ShapeError, "expected one value or 2"),
        (lambda: data.RandomCrop(3, (1, 2)), ShapeError, "padding: expected one"),
        (lambda: data.RandomHorizontalFlip("a"), DTypeError, "p: expected a number"),
        (lambda: data.RandomAffine(float("nan")), Error, "degrees: expected a finite"),
        (lambda: data.RandomAffine((5,)), Error, "degrees: expected 2 numbers, got"),
        (lambda: data.RandomAffine(1, 0.1), Error, "translate: expected 2 numbers"),
        (lambda: data.RandomAffine(1, None, 1.2), Error, "scale: expected 2 numbers"),
        (lambda: data.Cutout((2, 3)), ShapeError, "Cutout: size: expected one value"),
        (lambda: data.Normalize(0, [1, float("nan")]), Error, "std: expected a finite"),
        (lambda: data.Normalize(0, 1, peak=0), Error, "peak: expected positive"),
        (lambda: data.Normalize([[0, 1, 2]], 1), ShapeError, "a number or one per"),
        (lambda: data.MixUp(2.5), DTypeError, "num_classes: expected an int, got 2.5"),
    ],
)  # fmt: skip
def test_arguments_that_mean_nothing(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_fills_and_labels_that_do_not_fit():
    pixels = batch(4, 3, 8, 8, dtype=np.uint8)
    for step in (data.RandomCrop(8, 2, fill=300), data.Cutout(3, fill=-1)):
        with pytest.raises(DTypeError, match="fill: .* is out of the range of uint8"):
            step(pixels)
    images, mix = batch(4, 3, 8, 8), data.MixUp(5, generator=0)
    assert mix((images, [0, 1, 2, 3]))[1].shape == (4, 5)
    with pytest.raises(ShapeError, match="images and a label for each, got"):
        mix((images, np.arange(3)))
    with pytest.raises(ShapeError, match=r"labels: expected \(N,\) or \(N, 5\), got"):
        mix((images, np.ones((4, 3))))
    with pytest.raises(DTypeError, match="labels: expected integers, got float64"):
        mix((images, np.arange(4.0)))


def test_a_transform_tells_its_arguments():
    steps = data.Compose(data.RandomCrop(np.int64(8), 1), data.Cutout(2), generator=0)
    assert repr(steps) == (
        "Compose(steps=(RandomCrop(size=(8, 8), padding=1, fill=0.0), "
        "Cutout(size=2, p=1.0, fill=0.0)))"
    )
