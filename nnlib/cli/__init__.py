"""The command ``nnlib``: ``nnlib demo``, ``nnlib info`` and ``nnlib kernels``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nnlib.backend.errors import Error
from nnlib.cli.info import info, installed

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.
    """
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "demo":
            from nnlib.cli.demo import demo

            demo(
                dataset=arguments.dataset,
                device=arguments.device,
                epochs=arguments.epochs,
                seed=arguments.seed,
                output=arguments.output,
            )
        elif arguments.command == "kernels":
            return _kernels(arguments)
        else:
            print(info())
    except Error as error:
        print(f"nnlib {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"nnlib {arguments.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _kernels(arguments: argparse.Namespace) -> int:
    from nnlib.cli.kernels import kernels_text, warm

    if arguments.warm is None:
        print(kernels_text(arguments.names, signatures=arguments.signatures))
        return 0
    warmed = warm([*arguments.warm, *arguments.names])
    print(f"warm: {', '.join(warmed.done)}")
    for name, error in warmed.failed.items():
        print(f"nnlib kernels: {name}: {error}", file=sys.stderr)
    return int(bool(warmed.failed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnlib", description="Neural networks in Python."
    )
    parser.add_argument(
        "--version", action="version", version=f"nnlib {installed('nnlib-dl')}"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train a network on handwritten digits")
    demo.add_argument(
        "--dataset",
        choices=("digits", "mnist"),
        default="digits",
        help="1,797 digits of 8x8 pixels that come with nnlib (default), or the "
        "70,000 of MNIST, which are downloaded once",
    )
    demo.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:N or auto (default: CUDA where it can be used)",
    )
    demo.add_argument("--epochs", type=_positive, help="passes over the training data")
    demo.add_argument("--seed", type=int, default=0, help="of weights and order")
    demo.add_argument(
        "--output", help="the picture of the learning curves (default: in this folder)"
    )
    commands.add_parser("info", help="versions, devices, threads, kernel cache")
    kernels = commands.add_parser("kernels", help="list the kernels, warm their cache")
    kernels.add_argument("names", nargs="*", help="parts of the names to list")
    kernels.add_argument(
        "--signatures", action="store_true", help="list what each is compiled for"
    )
    kernels.add_argument(
        "--warm",
        nargs="*",
        metavar="FAMILY",
        help="compile what training usually needs (all families, or these)",
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value
