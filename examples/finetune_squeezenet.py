"""Fine-tune an imported SqueezeNet on photographs of sign-language digits.

    python examples/finetune_squeezenet.py

The network comes as an ONNX file, trained on ImageNet by another framework. It is cut
above its last features and given a new head, for ten digits. Three ways to train it
on four fifths of 2,062 photographs: frozen, so that the features are computed once
and only the head learns; unfrozen, all layers, the imported ones more slowly; and
from scratch, the same network with new weights. Of the other fifth 93.9, 98.1 and
39.8 % are right after 12 epochs (69, 182 and 145 s on one thread of a busy machine).
F. Iandola et al.: SqueezeNet, 2016.
"""

import argparse
import os
import time
from pathlib import Path

import nnlib
from nnlib import nn
from nnlib.data import (
    Compose,
    DataLoader,
    RandomAffine,
    RandomHorizontalFlip,
    SignLanguageDigits,
    TensorDataset,
    train_val_test_split,
)
from nnlib.nn import init
from nnlib.optim.lr_scheduler import OneCycleLR
from nnlib.train import evaluate, extract_features, fit, freeze
from nnlib.viz import plot_history

MODEL = "onnx/squeezenet1.0-deepcompressed-13/model.onnx"
FEATURES = "fire9_concat"


def photographs(options):
    """Return the photographs as the network wants them: BGR less the mean colour."""
    data = SignLanguageDigits()
    images = nnlib.tensor(data.images[:, ::-1].astype("float32"))
    images -= nnlib.tensor([104.0, 117.0, 123.0]).reshape(1, 3, 1, 1)
    whole = TensorDataset(images, nnlib.tensor(data.labels)).to(options.device)
    parts = train_val_test_split(
        whole, 0.0, 0.2, stratify=data.labels, generator=options.seed
    )
    return [TensorDataset(*whole[part.indices]) for part in (parts[0], parts[2])]


def network(path):
    """Return the imported features, for images of any size, under a new head."""
    import onnx

    proto = onnx.load(path)
    for size in proto.graph.input[0].type.tensor_type.shape.dim:
        size.ClearField("dim_value")
    features = nnlib.onnx.load(proto, outputs=FEATURES)
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(512, 10)
    )
    return nn.Sequential(features, head)


def start_anew(model):
    """Draw all weights, as He et al. (2015) do for ReLU."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            init.kaiming_normal_(parameter)
        else:
            init.zeros_(parameter)


def learn(model, data, groups, rate, epochs, options, augment=None):
    """Train with Adam on one cycle of the learning rate; return the history."""
    loader = DataLoader(
        data, 32, shuffle=True, generator=options.seed, transform=augment
    )
    optimizer = nnlib.optim.AdamW(groups, lr=rate, weight_decay=0.01)
    rates = [group["lr"] for group in optimizer.param_groups]
    return fit(
        model,
        loader,
        optimizer=optimizer,
        epochs=epochs,
        scheduler=OneCycleLR(optimizer, rates, total_steps=epochs * len(loader)),
        scheduler_step="batch",
    )


def main():
    """Train in each way; print the accuracies on the held-out fifth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="the ONNX file")
    parser.add_argument("--samples", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    path = options.model or Path(os.environ.get("NNLIB_DATA", ".")) / MODEL

    train, test = photographs(options)
    train = TensorDataset(*train[: options.samples])
    held_out = DataLoader(TensorDataset(*test[: options.samples]), 100)
    augment = Compose(RandomAffine(12, (0.1, 0.1), (0.9, 1.1)), RandomHorizontalFlip())
    results = {}

    def report(name, model, start):
        seconds = time.perf_counter() - start
        results[name] = evaluate(model, held_out)["accuracy"]
        print(
            f"{name}: test accuracy {results[name]:.2%} ({seconds:.0f} s)", flush=True
        )

    for name in ("frozen", "unfrozen", "from scratch"):
        nnlib.manual_seed(options.seed)
        model = network(path).to(options.device)
        features, head = model
        start = time.perf_counter()
        if name == "frozen":
            freeze(model, features)
            cached = extract_features(features, DataLoader(train, 100))
            learn(head, cached, head.parameters(), 3e-3, 3 * options.epochs, options)
        else:
            rate = 1e-3
            if name == "from scratch":
                start_anew(model)
            groups = [
                {"params": list(features.parameters()), "lr": 3e-4},
                {"params": list(head.parameters()), "lr": rate},
            ]
            history = learn(
                model, train, groups, rate, options.epochs, options, augment
            )
            plot_history(
                history,
                f"{options.output}/squeezenet-{name.replace(' ', '-')}.png",
                title=f"SqueezeNet on sign-language digits, {name}",
            )
        report(name, model, start)


if __name__ == "__main__":
    main()
