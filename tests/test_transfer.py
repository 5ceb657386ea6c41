"""Transfer: freezing, rates by depth, cached features, pretraining, the registry."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

import nnlib
from nnlib import models, nn, train
from nnlib.backend.errors import ArgumentError, Error, ShapeError
from nnlib.data import DataError, DataLoader, DownloadError, TensorDataset

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("NNLIB_DATA") or ROOT.parent / "shared" / "data")


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10),
    )  # fmt: skip


def digits(count=300):
    x, labels = nnlib.data.Digits().to_arrays()
    return TensorDataset(x[:count], labels[:count])


def learn(model, data, epochs=1, **options):
    return train.fit(
        model, DataLoader(data, 50, shuffle=True, generator=0),
        optimizer=nnlib.optim.SGD(model.parameters(), lr=0.05), epochs=epochs,
        progress=False, **options,
    )  # fmt: skip


def state(model):
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def changed(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_frozen_weights_and_statistics_do_not_move():
    model = network()
    assert train.freeze(model, "0.*", "1", model[3]) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias",
    ]  # fmt: skip
    before = state(model)
    learn(model, digits())
    moved = changed(before, state(model))
    assert moved == {
        "4.weight", "4.bias", "4.running_mean", "4.running_var",
        "4.num_batches_tracked", "8.weight", "8.bias",
    }  # fmt: skip
    model.train()
    assert not model[1].training and model[4].training
    assert set(train.unfreeze(model)) == {n for n, _ in model.named_parameters()}
    model.train()
    assert model[1].training
    before = state(model)
    learn(model, digits())
    # A bias in front of a batch normalisation has no effect, and no gradient.
    assert set(before) - changed(before, state(model)) <= {"0.bias", "3.bias"}


def test_a_pattern_without_a_parameter_is_an_error():
    with pytest.raises(ArgumentError, match=r"freeze: 'features.\*' fits no parameter"):
        train.freeze(network(), "features.*")
    with pytest.raises(ArgumentError, match="unfreeze: ReLU fits no parameter"):
        train.unfreeze(network(), nn.ReLU())


def test_layer_groups_lower_the_rate_with_depth():
    model = network()
    groups = train.layer_groups(model, 0.8, decay=2)
    assert [group["lr"] for group in groups] == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    blocks = train.layer_groups(model, 0.8, decay=4, modules=[model[3], model[8]])
    assert [group["lr"] for group in blocks] == [0.05, 0.2, 0.8]
    nnlib.optim.SGD(groups, lr=0.1)
    with pytest.raises(ArgumentError, match="layer_groups"):
        train.layer_groups(model, 0.1, decay=0.5)


def test_gradual_unfreezing_wakes_layers_from_the_last():
    model = network()
    awake = []

    class Watch(train.Callback):
        def on_batch_end(self, run):
            awake.append(sum(m.weight.requires_grad for m in (model[0], model[3])))

    blocks = [model[0], model[3], model[8]]
    learn(
        model, digits(50), epochs=3,
        callbacks=[train.GradualUnfreezing(blocks), Watch()],
    )  # fmt: skip
    assert awake == [0, 1, 2]
    with pytest.raises(ArgumentError, match="GradualUnfreezing"):
        train.GradualUnfreezing([])


def test_cached_features_equal_the_layers_output():
    model, data = network(), digits(70)
    features = train.extract_features(model, DataLoader(data, 30), "7")
    assert model.training
    x, labels = features.tensors
    np.testing.assert_array_equal(labels.numpy(), data.tensors[1].numpy())
    model.eval()
    want = model[:8](data.tensors[0])
    np.testing.assert_allclose(x.numpy(), want.detach().numpy(), rtol=1e-5, atol=1e-6)
    whole = train.extract_features(model, DataLoader(data, 30)).tensors[0]
    np.testing.assert_allclose(
        whole.numpy(), model[8](want).detach().numpy(), rtol=1e-4, atol=1e-5
    )
    head = nn.Linear(6, 10)
    history = learn(head, features, epochs=3)
    assert history["loss"][-1] < history["loss"][0]
    with pytest.raises(ShapeError, match="no batch"):
        train.extract_features(model, [])


def test_pretraining_lowers_each_layers_error_and_leaves_the_rest():
    model = models.MLP([64, 40, 20, 10])
    layers = [m for m in model if isinstance(m, nn.Linear)]
    x = nnlib.tensor(nnlib.data.Digits().to_arrays(flatten=True)[0][:500])
    before = state(model)
    first = train.pretrain_stack(
        layers[:2], x, epochs=1, noise=nn.MaskingNoise(0.2), progress=False
    )
    later = train.pretrain_stack(layers[:2], x, epochs=4, progress=False)
    assert len(first) == 2 and later[0] < first[0]
    assert changed(before, state(model)) == {"1.weight", "1.bias", "3.weight", "3.bias"}
    with pytest.raises(ShapeError, match=r"layers\[1\] takes 64 features, but 40"):
        train.pretrain_stack([layers[0], layers[0]], x, epochs=1, progress=False)


def test_registry_builds_and_loads(tmp_path):
    assert {"lenet5", "resnet18", "vae", "unet"} <= set(models.list())
    assert models.list("vgg1*") == ["vgg11", "vgg13", "vgg16", "vgg19"]
    model = models.get("lenet5", num_classes=4)
    path = tmp_path / "lenet.safetensors"
    nnlib.save(model.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    again = models.get("lenet5", num_classes=4, weights=path, sha256=digest)
    assert not changed(state(model), state(again))
    with pytest.raises(ArgumentError, match="no model 'lenet6'"):
        models.get("lenet6")
    with pytest.raises(ArgumentError, match="sha256: expected 00, got " + digest):
        models.get("lenet5", weights=path, sha256="00")
    with pytest.raises(ArgumentError, match="an address needs its file's hash"):
        models.get("lenet5", weights="https://example.org/lenet.safetensors")
    with pytest.raises(ArgumentError, match="without weights"):
        models.get("lenet5", sha256=digest)
    with pytest.raises(Error, match="6.weight|11.weight"):
        models.get("lenet5", num_classes=5, weights=path)
    with pytest.raises(ArgumentError, match="'lenet5' is taken"):
        models.register("lenet5", nn.Linear)


def test_sign_language_digits():
    pytest.importorskip("PIL")
    if not (DATA / "sign-language-digits").is_dir():
        pytest.skip("the photographs are not on this machine")
    data = nnlib.data.SignLanguageDigits(DATA)
    assert data.images.shape == (2062, 3, 100, 100)
    counts = np.bincount(data.labels)
    assert counts.tolist() == [205, 206, 206, 206, 207, 207, 207, 206, 208, 204]


def test_sign_language_digits_errors(tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    monkeypatch.delenv("NNLIB_DATA", raising=False)
    monkeypatch.setenv("NNLIB_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(DownloadError, match="found neither"):
        nnlib.data.SignLanguageDigits(tmp_path)
    (tmp_path / "sign-language-digits.tar.xz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="the archive is corrupt"):
        nnlib.data.SignLanguageDigits(tmp_path)
    (tmp_path / "sign-language-digits.tar.xz").unlink()
    (tmp_path / "Dataset" / "3").mkdir(parents=True)
    (tmp_path / "Dataset" / "3" / "a.JPG").write_bytes(b"no picture")
    with pytest.raises(DataError, match="3/a.JPG: not a readable JPEG"):
        nnlib.data.SignLanguageDigits(tmp_path)
