"""ResNet-20 on CIFAR-10, with the paper's augmentation.

    python examples/resnet_cifar.py

Crops of 32x32 from images padded by 4 pixels, half of them in the mirror; momentum on
one cycle of the learning rate. By default two of the five training files, 20,000
photographs, for 10 epochs: 78.6 % of the test set. ``--batches 1 2 3 4 5 --epochs
60`` is nearer to the paper, and slow on a CPU.
"""

import argparse
import time

import nnlib
from nnlib.data import (
    CIFAR10,
    Compose,
    DataLoader,
    RandomCrop,
    RandomHorizontalFlip,
    TensorDataset,
)
from nnlib.models import resnet_cifar
from nnlib.optim.lr_scheduler import OneCycleLR
from nnlib.train import evaluate, fit
from nnlib.viz import plot_history


def main():
    """Train with SGD; draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--samples", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    train = CIFAR10(batches=options.batches).to_tensors(device=options.device)
    train = TensorDataset(*train[: options.samples])
    test = CIFAR10(train=False).to_tensors(device=options.device)
    test = TensorDataset(*test[: options.samples])
    # After normalisation 0 is the mean colour: what the border is filled with.
    augment = Compose(RandomCrop(32, padding=4), RandomHorizontalFlip())
    model = resnet_cifar(options.depth).to(options.device)
    loader = DataLoader(
        train, 128, shuffle=True, generator=options.seed, transform=augment
    )
    held_out = DataLoader(test, 500)
    optimizer = nnlib.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
    start = time.perf_counter()
    history = fit(
        model,
        loader,
        optimizer=optimizer,
        epochs=options.epochs,
        validation=held_out,
        scheduler=OneCycleLR(optimizer, 0.1, total_steps=options.epochs * len(loader)),
        scheduler_step="batch",
    )
    seconds = time.perf_counter() - start
    accuracy = evaluate(model, held_out)["accuracy"]
    print(
        f"ResNet-{options.depth}, {len(train)} photographs, {options.epochs} epochs in "
        f"{seconds:.0f} s: test accuracy {accuracy:.2%}"
    )
    plot_history(
        history,
        f"{options.output}/resnet-cifar.png",
        title=f"ResNet-{options.depth} on CIFAR-10",
    )


if __name__ == "__main__":
    main()
