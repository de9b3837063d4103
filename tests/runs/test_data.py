from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nascore import SearchConfig, search
from nascore.engine.random import stream
from nascore.runs import data
from nascore.runs.data import Batches, crop_and_flip, load_splits
from nascore.runs.datasets import DATASETS, dataset

CPU = torch.device("cpu")
SIZES = {"train": 600, "search": 500, "valid": 400}


def load(name="digits", sizes=SIZES, seed=0, **settings):
    examples = {f"{split}_examples": size for split, size in sizes.items()}
    return load_splits(SearchConfig(dataset=name, seed=seed, **examples, **settings), CPU)


def test_splits_are_disjoint_and_keep_their_labels():
    splits = load()
    index = [set(split.index.tolist()) for split in splits.values()]
    assert [len(part) for part in index] == [600, 500, 400]
    assert len(set.union(*index)) == 1500
    _, labels = DATASETS["digits"].read()
    for split in splits.values():
        assert torch.equal(split.labels, torch.from_numpy(labels)[split.index])


def test_without_a_search_set_alpha_has_the_training_examples():
    sizes = {"train": 96, "valid": 64}
    splits = load(sizes=sizes, level="bi", search_set="train")
    assert splits["search"] is splits["train"] and len(splits["train"]) == 96
    assert torch.equal(splits["train"].images, load(sizes=sizes)["train"].images)


def test_batches_drawn_anew_are_uniform_and_do_not_wait_for_the_others():
    """Of 100 examples, 300 batches of 96: each is in 288 of them, give or take 5 deviations."""
    split = load(sizes={"train": 100})["train"]
    split.images[:, 0, 0, 0] = torch.arange(100)
    seen = torch.zeros(100)
    for images, _ in islice(Batches(split, 96, stream(0, "x"), anew=True), 300):
        rows = images[:, 0, 0, 0].long()
        assert len(rows.unique()) == 96  # without repeats within a batch
        seen[rows] += 1
    assert (seen - 288).abs().max() < 5 * (300 * 0.96 * 0.04) ** 0.5


def test_seed_decides_the_split():
    one, same, other = (load(seed=seed)["train"] for seed in (0, 0, 1))
    assert torch.equal(one.images, same.images) and torch.equal(one.index, same.index)
    assert not torch.equal(one.index, other.index)


def test_images_are_normalised_and_channels_last():
    images = load(sizes={"train": 1797, "search": 0, "valid": 0})["train"].images
    assert images.shape == (1797, 1, 8, 8)
    assert images.mean().abs() < 1e-5 and abs(images.std() - 1) < 1e-4
    split = load("synthetic", {"train": 96, "search": 0, "valid": 0})["train"]
    assert split.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [4, 5, 8, 12])
def test_image_size_pools_or_pads(size):
    split = load(image_size=size)["train"]
    assert split.images.shape == (600, 1, size, size)


def test_padding_keeps_the_image_in_the_middle():
    images = torch.rand(2, 1, 4, 4)
    padded = data._resized(images, 7)
    assert torch.equal(padded[:, :, 1:5, 1:5], images)
    assert padded.sum() == pytest.approx(images.sum().item())


def test_label_noise_replaces_the_stated_share_once():
    clean, noisy, again = (load(label_noise=share) for share in (0.0, 0.4, 0.4))
    labels = [torch.cat([s.labels for s in splits.values()]) for splits in (clean, noisy, again)]
    assert torch.equal(labels[1], labels[2])
    changed = (labels[0] != labels[1]).float().mean()
    # 600 of 1500 are redrawn, 0.36 of all change on average; 4 standard deviations are 0.02.
    assert abs(changed - 0.36) < 0.02


def test_batches_are_full_and_each_example_comes_at_most_once():
    split = load()["train"]
    generator = stream(0, "train")
    endless = Batches(split, 96, generator)
    batches = [next(endless) for _ in range(6)]  # one epoch
    assert [len(labels) for _, labels in batches] == [96] * 6
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in batches)
    seen = torch.cat([images for images, _ in batches]).flatten(1)
    assert len(seen.unique(dim=0)) == 576
    assert not torch.equal(next(endless)[0], batches[0][0])


def test_chunks_hold_every_example_in_order():
    split = load()["search"]
    images, labels = zip(*split.chunks(96), strict=True)
    assert torch.equal(torch.cat(images), split.images)
    assert torch.equal(torch.cat(labels), split.labels)
    assert {len(part) for part in labels} == {100}


@pytest.mark.parametrize("height, width", [(6, 6), (3, 7), (7, 3)])
def test_crop_and_flip_shifts_or_mirrors_each_image(height, width):
    """Every result is found among all shifts of the image or of its mirror image."""
    images = torch.rand(40, 2, height, width)
    result = crop_and_flip(images, stream(0, "train"))
    found = set()
    for before, after in zip(images, result, strict=True):
        matches = set()
        for flipped in (False, True):
            padded = torch.nn.functional.pad(before.flip(2) if flipped else before, (4,) * 4)
            for row in range(9):
                for column in range(9):
                    if torch.equal(padded[:, row : row + height, column : column + width], after):
                        matches.add((flipped, row, column))
        assert matches
        found |= matches
    assert len({flip for flip, _, _ in found}) == 2 and len(found) > 30


def test_images_that_are_not_square_keep_their_shape():
    images = torch.rand(2, 1, 7, 4)
    assert data._resized(images, None) is images
    assert torch.equal(data._resized(images, 9)[:, :, 1:8, :4], images)  # 9 to 5
    pooled = data._resized(
        torch.rand(2, 1, 8, 4).repeat_interleave(2, 2).repeat_interleave(2, 3), 8
    )
    assert pooled.shape == (2, 1, 8, 4)
    upright, lying = data._resized(images, 5), data._resized(images.transpose(2, 3), 5)
    assert upright.shape == (2, 1, 5, 3) and torch.allclose(upright, lying.mT)


def test_a_pair_is_reached_without_stretching():
    images = torch.rand(2, 1, 7, 4)
    square = data._resized(images, (7, 7))
    assert torch.equal(square[:, :, :, 1:5], images)
    assert square.sum() == pytest.approx(images.sum().item())
    assert torch.equal(data._resized(images, (5, 5)), data._resized(square, 5))
    assert torch.equal(data._resized(images, (9, 11)), data._resized(square, (9, 11)))


@pytest.mark.parametrize("side", [7, 8, 28])
@pytest.mark.parametrize("size", [3, 7, 8, 11, 28, 31])
def test_square_images_are_as_ever(side, size):
    """Those of the records that come with the book, bit for bit."""
    images = torch.rand(2, 1, side, side)
    before, after = (size - side) // 2, size - side - (size - side) // 2
    padded = F.pad(images, (before, after) * 2)
    expected = F.adaptive_avg_pool2d(images, size) if size < side else padded
    assert torch.equal(data._resized(images, size), expected)


@pytest.mark.parametrize("image_size, shape", [(None, (6, 10)), (5, (3, 5)), ((8, 9), (8, 9))])
def test_a_search_on_images_that_are_not_square(monkeypatch, image_size, shape):
    monkeypatch.setattr(DATASETS, "_known", dict(DATASETS._known))

    @dataset("wide", examples=64, classes=2, channels=1)
    def wide():
        labels = np.arange(64) % 2
        return np.random.default_rng(0).normal(size=(64, 1, 6, 10)), labels

    config = SearchConfig(
        dataset=f"{__name__}:wide",
        image_size=image_size,
        cells=2,
        channels=4,
        batch_size=32,
        epochs=2,
    )
    splits = load_splits(config, CPU)
    assert splits["train"].images.shape == (64, 1, *shape)
    loss = search(config, progress=False).mean_loss.sel(split="train").values
    assert np.isfinite(loss).all() and len(set(loss)) == 3
