"""From digits to garments: what a network learned on MNIST helps on Fashion-MNIST.

    python examples/transfer_fashion.py

A small convolutional network learns the 60,000 digits; then garments, from few labels,
in three ways: from scratch, with the convolutions frozen (their features are computed
once), and with all layers trained, the lower ones more slowly and from the last on
down. With 300 labels: 79.5 % of the test set right from scratch, 79.8 % frozen, 80.6 %
with all layers trained (79.5, 79.7 and 81.4 % with seed 1). The fewer the labels, the
more the digits help: with 100 and seed 1, 67.8, 72.8 and 73.8 %; with 1,000 garments of
their own (seed 0), nothing: 83.0, 82.1 and 82.9 %.
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.data import MNIST, DataLoader, FashionMNIST, TensorDataset
from nnlib.train import (
    GradualUnfreezing,
    evaluate,
    extract_features,
    fit,
    freeze,
    layer_groups,
)
from nnlib.viz import show_filters


def block(n_in, n_out, size):
    """Return a convolution, normalised and pooled."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, size, padding=size // 2),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


def network():
    """Return two blocks of convolutions and a classifier."""
    return nn.Sequential(
        block(1, 16, 5), block(16, 32, 3), nn.Flatten(), nn.Linear(32 * 7 * 7, 10)
    )


def learn(model, data, groups, options, callbacks=()):
    """Train on garments."""
    fit(
        model,
        DataLoader(data, 50, shuffle=True, generator=options.seed),
        optimizer=nnlib.optim.Adam(groups),
        epochs=options.epochs,
        callbacks=callbacks,
    )


def main():
    """Print the test accuracy on garments in each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    digits = MNIST().to_tensors(device=options.device)
    digits = TensorDataset(*digits[: options.samples])
    garments, test = (
        FashionMNIST(train=part).to_tensors(device=options.device)
        for part in (True, False)
    )
    few = TensorDataset(*garments[: options.labels])
    held_out = DataLoader(test, 1000)

    taught = network().to(options.device)
    fit(
        taught,
        DataLoader(digits, 100, shuffle=True, generator=options.seed),
        optimizer=nnlib.optim.Adam(taught.parameters()),
        epochs=2,
    )
    show_filters(taught[0][0], path=f"{options.output}/transfer-filters.png")
    start = taught.state_dict()
    start = {name: start[name].clone() for name in start}

    scratch = network().to(options.device)
    learn(scratch, few, scratch.parameters(), options)
    results = {"from scratch": evaluate(scratch, held_out)["accuracy"]}

    frozen = network().to(options.device)
    frozen.load_state_dict(start)
    freeze(frozen, frozen[0], frozen[1])
    head = frozen[3]
    head.reset_parameters()
    features = extract_features(frozen, DataLoader(few, 500), "2")
    learn(head, features, head.parameters(), options)
    results["convolutions frozen"] = evaluate(frozen, held_out)["accuracy"]

    tuned = network().to(options.device)
    tuned.load_state_dict(start)
    tuned[3].load_state_dict(head.state_dict())
    blocks = [tuned[0], tuned[1], tuned[3]]
    learn(
        tuned,
        few,
        layer_groups(tuned, 1e-3, decay=2, modules=blocks),
        options,
        [GradualUnfreezing(blocks, every=2)],
    )
    results["all layers tuned"] = evaluate(tuned, held_out)["accuracy"]
    for name, accuracy in results.items():
        print(f"{len(few)} garments, {name}: test accuracy {accuracy:.2%}")


if __name__ == "__main__":
    main()
