"""Receptive fields: which pixels one output sees, and how that grows.

    python examples/receptive_field.py

The gradient of the middle output with respect to the image is nonzero exactly at the
pixels that it depends on. Each 3x3 layer adds 2 pixels; a stride doubles what later
layers add, and so does a growing dilation. Within the field the middle counts most:
more paths lead there (Luo et al.: Understanding the effective receptive field, 2016).
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.viz import new_figure, receptive_field, save

SIDE = 65

# name: (stride, dilation) of each 3x3 convolution
NETWORKS = {
    "1 layer": [(1, 1)],
    "2 layers": [(1, 1)] * 2,
    "4 layers": [(1, 1)] * 4,
    "8 layers": [(1, 1)] * 8,
    "4 layers, stride 2": [(2, 1)] * 4,
    "4 layers, dilation 1, 2, 4, 8": [(1, 1), (1, 2), (1, 4), (1, 8)],
}


def by_formula(layers):
    """Return the field: each layer adds (kernel - 1) * dilation input steps."""
    field, step = 1, 1
    for stride, dilation in layers:
        field += 2 * dilation * step
        step *= stride
    return field


def by_gradient(layers, draws):
    """Return the mean size of the middle output's gradient, over random networks."""
    total = 0
    for _ in range(draws):
        model = nn.Sequential()
        channels = 1
        for stride, dilation in layers:
            model.append(
                nn.Conv2d(
                    channels, 8, 3, stride=stride, padding=dilation, dilation=dilation
                )
            )
            channels = 8
        total = total + receptive_field(model, (SIDE, SIDE), draws=1)
    return nnlib.tensor(total / draws)


def main():
    """Print the fields of all networks and draw their gradients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    figure = new_figure(9, 6.4)
    for place, (name, layers) in enumerate(NETWORKS.items(), start=1):
        gradient = by_gradient(layers, options.draws)
        seen = int((gradient > 0).any(0).sum().item())
        profile = (gradient.sum(0) / gradient.sum()).tolist()
        inner = next(
            width
            for width in range(1, SIDE + 1, 2)
            if sum(profile[(SIDE - width) // 2 : (SIDE + width) // 2]) >= 0.5
        )
        print(
            f"{name}: formula {by_formula(layers)}, measured {seen} pixels wide; "
            f"half of the gradient in the middle {inner}"
        )
        axes = figure.add_subplot(2, 3, place)
        axes.imshow(gradient.sqrt().numpy(), cmap="magma")
        axes.set_title(f"{name}: {seen} pixels", fontsize=9)
        axes.set_axis_off()
    save(figure, f"{options.output}/receptive-field.png")


if __name__ == "__main__":
    main()
