"""LeNet-5 on MNIST: 98.9 % and more within three epochs.

python examples/lenet_mnist.py
"""

import argparse
import time

import nnlib
from nnlib.data import MNIST, DataLoader
from nnlib.models import LeNet5
from nnlib.optim.lr_scheduler import OneCycleLR
from nnlib.train import evaluate, fit
from nnlib.viz import show_images


def main():
    """Train with Adam on one cycle of the learning rate; draw the first filters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    train, test = (
        MNIST(train=part).to_tensors(device=options.device) for part in (True, False)
    )
    model = LeNet5().to(options.device)
    loader = DataLoader(train, 64, shuffle=True, generator=options.seed)
    optimizer = nnlib.optim.Adam(model.parameters())
    start = time.perf_counter()
    fit(
        model,
        loader,
        optimizer=optimizer,
        epochs=options.epochs,
        scheduler=OneCycleLR(optimizer, 4e-3, total_steps=options.epochs * len(loader)),
        scheduler_step="batch",
    )
    seconds = time.perf_counter() - start
    accuracy = evaluate(model, DataLoader(test, 1000))["accuracy"]
    print(
        f"LeNet-5, {options.epochs} epochs in {seconds:.0f} s: "
        f"test accuracy {accuracy:.2%}"
    )
    show_images(
        model[0].weight.detach(),
        path=f"{options.output}/lenet-mnist.png",
        columns=6,
        title="filters of the first layer",
    )


if __name__ == "__main__":
    main()
