"""A convolutional GAN on MNIST, judged by a classifier.

    python examples/dcgan_mnist.py

A generator turns noise into digits, a discriminator tells them from real ones, and
both learn in turns. A LeNet trained on the real digits then looks at 10,000 samples:
how sure it is, and whether all ten digits come.
"""

import argparse
import time

import nnlib
from nnlib.data import MNIST, DataLoader, TensorDataset
from nnlib.models import DCGANDiscriminator, DCGANGenerator, LeNet5
from nnlib.train import evaluate, fit, fit_gan, predict
from nnlib.viz import show_images


def train_judge(train, test, options):
    """Return a LeNet that knows digits, and its test accuracy."""
    judge = LeNet5().to(options.device)
    fit(
        judge,
        DataLoader(train, 64, shuffle=True, generator=options.seed),
        optimizer=nnlib.optim.Adam(judge.parameters()),
        epochs=2,
    )
    return judge, evaluate(judge, DataLoader(test, 1000))["accuracy"]


def main():
    """Train; draw samples after each epoch; let the classifier judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the pictures")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    # From -1 to 1, as the generator's tanh gives.
    train, test = (
        TensorDataset(2 * data.tensors[0] - 1, data.tensors[1])
        for data in (
            MNIST(train=part).to_tensors(normalize=False, device=options.device)
            for part in (True, False)
        )
    )
    train = TensorDataset(*train[: options.samples])
    generator = DCGANGenerator().to(options.device)
    discriminator = DCGANDiscriminator().to(options.device)
    noise = nnlib.randn(64, generator.latents, device=options.device)

    def draw(epoch, history):
        show_images(
            predict(generator, noise),
            path=f"{options.output}/dcgan-epoch-{epoch}.png",
            title=f"samples after epoch {epoch}",
        )
        figures = ", ".join(f"{name} {history.last(name):.3f}" for name in history)
        print(f"epoch {epoch}: {figures}", flush=True)

    start = time.perf_counter()
    fit_gan(
        generator,
        discriminator,
        DataLoader(train, 128, shuffle=True, generator=options.seed, drop_last=True),
        generator_optimizer=nnlib.optim.Adam(
            generator.parameters(), 2e-4, betas=(0.5, 0.999)
        ),
        discriminator_optimizer=nnlib.optim.Adam(
            discriminator.parameters(), 2e-4, betas=(0.5, 0.999)
        ),
        latents=generator.latents,
        epochs=options.epochs,
        on_epoch_end=draw,
    )
    print(f"{options.epochs} epochs in {time.perf_counter() - start:.0f} s")

    judge, accuracy = train_judge(train, test, options)
    made = predict(
        generator, nnlib.randn(10_000, generator.latents, device=options.device), 500
    )
    chances = predict(judge, made, 1000).softmax(1)
    sure, digits = chances.max(1)
    shares = nnlib.bincount(digits.cpu(), minlength=10).numpy() / len(digits)
    print(f"the classifier's accuracy on real test digits: {accuracy:.2%}")
    print(
        f"10,000 samples: mean confidence {sure.mean().item():.3f}, above 0.9 for "
        f"{(sure > 0.9).float().mean().item():.1%}; rarest digit {shares.min():.1%}"
    )
    print("shares of 0 to 9:", " ".join(f"{share:.1%}" for share in shares))


if __name__ == "__main__":
    main()
