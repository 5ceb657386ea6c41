"""Every example runs as its text says, and reaches its figure on real data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ahead import run_script

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
# Where the data sets lie on this machine; without it the examples would download.
DATA = os.environ.get("NNLIB_DATA") or str(ROOT.parent / "shared" / "data")


def number(pattern: str, text: str) -> float:
    """Return the number that `pattern` catches in what an example printed."""
    match = re.search(pattern, text)
    assert match is not None, f"no {pattern!r} in:\n{text}"
    return float(match[1])


def perceptron(text: str) -> bool:
    return "separable: converged" in text and "xor: 4 mistakes" in text


def linear_regression(text: str) -> bool:
    found = re.search(r"slope (\S+), intercept (\S+) \(normal equations: (\S+), ", text)
    assert found is not None
    return (
        abs(float(found[1]) - float(found[3])) < 1e-3
        and number(r"3 against 8, test accuracy (\S+)%", text) > 96
    )


def hinge_and_log_loss(text: str) -> bool:
    idle = r"{} loss: .*, (\d+)% of the training"
    return (
        number(idle.format("hinge"), text) > 50 and number(idle.format("log"), text) < 5
    )


def function_fit(text: str) -> bool:
    narrow = number(r" 2 hidden units: mean squared error (\S+)", text)
    return number(r"100 hidden units: mean squared error (\S+)", text) < narrow / 1000


def sigmoid_and_relu(text: str) -> bool:
    return number(r"sigmoid: .*ratio (\S+)\)", text) < 1e-3 and (
        number(r"ReLU: .*ratio (\S+)\)", text) > 0.1
    )


def batch_sizes(text: str) -> bool:
    mini = number(r"mini-batch of 32: .*training loss ([\d.]+)", text)
    return mini < number(r"full batch: .*training loss ([\d.]+)", text)


def optimizers(text: str) -> bool:
    plain = number(r"plain +ravine: height (\S+)", text)
    others = re.findall(r"test accuracy (\S+)%", text)
    return number(r"momentum +ravine: height (\S+)", text) < plain / 100 and (
        len(others) == 5 and all(float(x) > 95 for x in others)
    )


def regularization(text: str) -> bool:
    unseen = {
        name: number(rf"{name} +loss on seen digits \S+, on unseen (\S+);", text)
        for name in ("none", "L2", "L1", "dropout", "input noise", "early stopping")
    }
    plain = unseen.pop("none")
    return all(loss < plain for loss in unseen.values())


def random_labels(text: str) -> bool:
    line = r"random labels: training accuracy (\S+)% .*, test"
    return number(line, text) == 100 and (
        number(r"random labels: .*test accuracy (\S+)%", text) < 15
    )


def custom_kernel(text: str) -> bool:
    return "gradcheck: True, gradgradcheck: True" in text and (
        number(r"kernel on .*: largest difference (\S+)", text) < 1e-12
        and number(r"test accuracy (\S+)%", text) > 93
    )


def receptive_field(text: str) -> bool:
    found = re.findall(r": formula (\d+), measured (\d+) pixels wide", text)
    return len(found) == 6 and all(formula == measured for formula, measured in found)


def translation_and_pooling(text: str) -> bool:
    at_4 = {
        name: number(rf"{name}: .* (\S+)% at 4", text)
        for name in ("no convolution", "2x2 pooling", "2x2 and global pooling")
    }
    return at_4["no convolution"] < at_4["2x2 pooling"] < at_4["2x2 and global pooling"]


def equivariance(text: str) -> bool:
    line = r"{} .*a quarter turn keeps (\S+)% of the answers"
    return number(line.format("p4"), text) > 99.5 > number(line.format("plain"), text)


def word2vec(text: str) -> bool:
    line = r"nnlib skip-gram: WordSim-353 (\S+), "
    return number(line, text) > 0.3 and number(r"nnlib CBoW: .*MEN (\S+),", text) > 0.3


def deep_autoencoder(text: str) -> bool:
    line = r"{}, 32 numbers a digit: test error (\S+)"
    found = [number(line.format(name), text) for name in ("PCA", "autoencoder")]
    return found[0] > found[1]


def denoising(text: str) -> bool:
    found = re.findall(r": (\S+) dB with noise, (\S+) dB restored", text)
    return len(found) == 2 and all(float(b) > float(a) + 2 for a, b in found)


def sparse_codes(text: str) -> bool:
    line = r"{} penalty: .*mean activity (\S+),"
    plain, kl, l1 = (number(line.format(name), text) for name in ("none", "KL", "L1"))
    return plain > 2 * kl and plain > 2 * l1


def dcgan_mnist(text: str) -> bool:
    shares = re.search(r"shares of 0 to 9: (.*)", text)
    return shares is not None and len(shares[1].split()) == 10


def pretraining(text: str) -> bool:
    line = r"{} pretraining, 500 labels: test accuracy (\S+)%"
    return all(number(line.format(name), text) > 60 for name in ("with", "without"))


def transfer_fashion(text: str) -> bool:
    found = re.findall(r"garments, .*: test accuracy (\S+)%", text)
    return len(found) == 3 and all(float(x) > 60 for x in found)


def translation(text: str) -> bool:
    losses = re.findall(r"epoch \d+: loss (\S+)", text)
    return len(losses) == 4 and all(
        float(last) < float(first) - 1 for first, last in (losses[:2], losses[2:])
    )


def finetune_squeezenet(text: str) -> bool:
    return len(re.findall(r": test accuracy (\S+)%", text)) == 3 and (
        number(r"frozen: test accuracy (\S+)%", text) > 30
    )


def vanishing_gradients(text: str) -> bool:
    line = r"{} +gradient, .* (\S+) after 50"
    return number(line.format("RNN"), text) < 1e-8 and (
        number(line.format("LSTM"), text) > 1e-3
        and "no clipping: largest norm inf" in text
        and "last loss nan" not in text.splitlines()[-1]
    )


def forecasting(text: str) -> bool:
    errors = {
        kind: number(rf"temperatures +{kind} +root mean squared error (\S+)", text)
        for kind in ("last value", "one season ago", "RNN", "LSTM", "GRU")
    }
    naive = min(errors.pop("last value"), errors.pop("one season ago"))
    return max(errors.values()) < naive


# For each: the data it needs, and what its output must say.
CHECKS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "perceptron": ("", perceptron),
    "linear_regression": ("", linear_regression),
    "hinge_and_log_loss": ("", hinge_and_log_loss),
    "xor": ("", lambda text: "all four right: True" in text),
    "function_fit": ("", function_fit),
    "batch_sizes": ("", batch_sizes),
    "custom_kernel": ("", custom_kernel),
    "softmax_mnist": ("mnist", lambda text: number(r"accuracy (\S+)%", text) >= 92.0),
    "mlp_mnist": ("mnist", lambda text: number(r"accuracy (\S+)%", text) >= 98.2),
    "sigmoid_and_relu": ("mnist", sigmoid_and_relu),
    "optimizers": ("mnist", optimizers),
    "regularization": ("mnist", regularization),
    "random_labels": ("mnist", random_labels),
    "receptive_field": ("", receptive_field),
    "lenet_mnist": ("mnist", lambda text: number(r"accuracy (\S+)%", text) >= 98.9),
    "translation_and_pooling": ("mnist", translation_and_pooling),
    "equivariance": ("mnist", equivariance),
    "fashion_cnn": (
        "fashion-mnist",
        lambda text: number(r"accuracy (\S+)%", text) > 80,
    ),
    "bag_of_tricks": (
        "mnist",
        lambda text: number(r"last .*accuracy (\S+)%", text) > 80,
    ),
    "deep_autoencoder": ("mnist", deep_autoencoder),
    "denoising": ("mnist", denoising),
    "sparse_codes": ("mnist", sparse_codes),
    "vae_mnist": ("mnist", lambda text: number(r"s: test bound (\S+)", text) < 160),
    "dcgan_mnist": ("mnist", dcgan_mnist),
    "pretraining": ("mnist", pretraining),
    "transfer_fashion": ("mnist", transfer_fashion),
    "translation": ("text", translation),
    "finetune_squeezenet": ("sign-language-digits", finetune_squeezenet),
    "resnet_cifar": ("cifar10", lambda text: number(r"accuracy (\S+)%", text) > 20),
    "word2vec": ("text/wikitext-2", word2vec),
    "intents": ("text/banking77", lambda text: number(r"accuracy (\S+)%", text) > 88),
    "intents_lstm": (
        "text/banking77",
        lambda text: number(r"LSTM: test accuracy (\S+)%", text) > 50,
    ),
    "transformer_lm": (
        "text/tinyshakespeare",
        lambda text: number(r"held out: (\S+) nats", text) < 3.0,
    ),
    "digit_captions": (
        "mnist",
        lambda text: number(r"test set: (\S+)% spelled", text) > 50,
    ),
    "word_lstm": (
        "text/wikitext-2",
        lambda text: number(r"test perplexity (\S+)", text) < 3000,
    ),
    "vanishing_gradients": ("", vanishing_gradients),
    "forecasting": ("timeseries", forecasting),
    "char_lstm": (
        "text/tinyshakespeare",
        lambda text: number(r"epoch +2: .*validation loss (\S+) nats", text) < 3.0,
    ),
}
# What makes a longer one short enough for a test, whose figure is then a lower one.
QUICK: dict[str, list[str]] = {
    "vanishing_gradients": ["--updates", "20", "--lags", "5"],
    "forecasting": ["--updates", "150"],
    "char_lstm": "--characters 60000 --epochs 2 --hidden 128 --length 50".split(),
    "word2vec": ["--no-peer"],
    "intents": "--only words --epochs 6".split(),
    "intents_lstm": "--epochs 3 --size 64 --hidden 64".split(),
    "transformer_lm": "--steps 100 --width 64 --layers 2 --letters 40".split(),
    "digit_captions": "--samples 8000 --epochs 1".split(),
    "word_lstm": "--tokens 40000 --epochs 1 --size 64 --samples 500".split(),
    "translation_and_pooling": ["--samples", "5000"],
    "fashion_cnn": ["--samples", "10000", "--epochs", "1"],
    "bag_of_tricks": ["--samples", "3000", "--epochs", "2"],
    "deep_autoencoder": ["--epochs", "2"],
    "denoising": ["--samples", "10000", "--epochs", "3"],
    "sparse_codes": ["--samples", "20000", "--epochs", "2"],
    "vae_mnist": ["--samples", "20000", "--epochs", "4"],
    "dcgan_mnist": ["--samples", "1500", "--epochs", "1"],
    "pretraining": "--samples 3000 --labels 500 --pretrain-epochs 2".split(),
    "transfer_fashion": "--samples 3000 --labels 500 --epochs 3".split(),
    "translation": "--samples 1500 --tests 100 --epochs 2 --hidden 64".split(),
    "finetune_squeezenet": ["--samples", "600", "--epochs", "2"],
    "resnet_cifar": "--depth 8 --batches 1 --samples 2000 --epochs 3".split(),
    "equivariance": ["--samples", "1000", "--tests", "1000", "--epochs", "4"],
}


# Packages that only this example needs.
NEEDS = {"finetune_squeezenet": ("onnx", "PIL")}


def test_every_example_is_checked() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(CHECKS)


def data_for(name: str, folder: Path) -> str:
    """Return where an example's data lie, CIFAR-10 unpacked into `folder`."""
    pack = Path(DATA) / "cifar10" / "cifar10_pack.py"
    if name != "cifar10" or not pack.exists():
        return DATA
    (folder / "cifar10").mkdir()
    unpack = [sys.executable, str(pack), "unpack", str(folder / "cifar10")]
    subprocess.run(unpack, check=True, capture_output=True)
    return str(folder)


def run_example(
    folder: Path, name: str
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Run an example as the test wants it; return the folder of its pictures too."""
    data, _ = CHECKS[name]
    if data and not (Path(DATA) / data).is_dir():
        pytest.skip(f"{data} is not in {DATA}")
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    script = [str(EXAMPLES / f"{name}.py"), *QUICK.get(name, [])]
    script += ["--output", str(folder)]
    return folder, run_script(script, folder, NNLIB_DATA=data_for(data, folder))


@pytest.mark.ahead(job=run_example)
@pytest.mark.parametrize("name", CHECKS)
def test_example(
    name: str, begun: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    folder, done = begun
    _, check = CHECKS[name]
    assert done.returncode == 0, done.stderr
    assert check(done.stdout), done.stdout
    assert list(folder.glob("*.png"))


def test_custom_kernel_in_the_simulator(tmp_path: Path) -> None:
    pytest.importorskip("numba_cuda", reason="the simulator needs numba-cuda")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "custom_kernel.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert number(r"simulator: largest difference (\S+)", done.stdout) < 1e-6
