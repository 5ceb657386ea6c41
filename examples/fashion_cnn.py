"""A convolutional network on Fashion-MNIST: over 92.5 %.

    python examples/fashion_cnn.py

Three normalised 3x3 convolutions, each pooled, with dropout, on one cycle of the
learning rate; half of the garments are seen in the mirror.
"""

import argparse
import time

import nnlib
from nnlib import nn
from nnlib.data import DataLoader, FashionMNIST, TensorDataset
from nnlib.models import VGG
from nnlib.optim.lr_scheduler import OneCycleLR
from nnlib.train import evaluate, fit
from nnlib.viz import plot_history


class Mirror(nn.Module):
    """Reflect every other image at random, in training only."""

    def forward(self, x):
        """Return `x`, shape (N, C, H, W), in part reflected."""
        if not self.training:
            return x
        chosen = nnlib.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        return nnlib.where(chosen, x.flip((-1,)), x)


def main():
    """Train with AdamW; draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    train, test = (
        FashionMNIST(train=part).to_tensors(device=options.device)
        for part in (True, False)
    )
    train = TensorDataset(*train[: options.samples])
    network = VGG(
        [32, "M", 64, "M", 128, "M"],
        10,
        in_channels=1,
        image_size=28,
        hidden=(256,),
        batch_norm=True,
        dropout=0.4,
    )
    model = nn.Sequential(Mirror(), network).to(options.device)
    loader = DataLoader(train, 128, shuffle=True, generator=options.seed)
    held_out = DataLoader(test, 1000)
    optimizer = nnlib.optim.AdamW(model.parameters(), weight_decay=0.01)
    start = time.perf_counter()
    history = fit(
        model,
        loader,
        optimizer=optimizer,
        epochs=options.epochs,
        validation=held_out,
        scheduler=OneCycleLR(optimizer, 4e-3, total_steps=options.epochs * len(loader)),
        scheduler_step="batch",
    )
    seconds = time.perf_counter() - start
    accuracy = evaluate(model, held_out)["accuracy"]
    print(
        f"32-M-64-M-128-M-256, {options.epochs} epochs in {seconds:.0f} s: "
        f"test accuracy {accuracy:.2%}"
    )
    plot_history(
        history, f"{options.output}/fashion-cnn.png", title="CNN on Fashion-MNIST"
    )


if __name__ == "__main__":
    main()
