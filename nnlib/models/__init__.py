"""Ready architectures, built from the layers of `nnlib.nn`."""

from collections.abc import Callable

from nnlib.models.alexnet import AlexNet
from nnlib.models.autoencoder import (
    Autoencoder,
    ConvAutoencoder,
    DeepAutoencoder,
    LinearAutoencoder,
    TiedAutoencoder,
)
from nnlib.models.cnn import LectureCNN
from nnlib.models.dcgan import DCGANDiscriminator, DCGANGenerator
from nnlib.models.lenet import LeNet5
from nnlib.models.mlp import MLP
from nnlib.models.mobilenet import DepthwiseSeparable, MobileNet
from nnlib.models.penalties import contractive_penalty, kl_activity, l1_activity
from nnlib.models.recurrent_autoencoder import RecurrentAutoencoder
from nnlib.models.registry import get, list, register
from nnlib.models.resnet import (
    BasicBlock,
    Bottleneck,
    ResNet,
    resnet18,
    resnet20,
    resnet34,
    resnet50,
    resnet56,
    resnet_cifar,
)
from nnlib.models.seq2seq import Decoded, Seq2Seq
from nnlib.models.transformer_lm import TransformerLM
from nnlib.models.unet import UNet
from nnlib.models.variational import (
    VAE,
    ConditionalVAE,
    VAELoss,
    VAEOutput,
    kl_to_standard_normal,
)
from nnlib.models.vgg import VGG, vgg6, vgg11, vgg13, vgg16, vgg19
from nnlib.nn import Module

__all__ = [
    "get",
    "list",
    "register",
    "Decoded",
    "RecurrentAutoencoder",
    "Seq2Seq",
    "VAE",
    "ConditionalVAE",
    "VAELoss",
    "VAEOutput",
    "kl_to_standard_normal",
    "contractive_penalty",
    "kl_activity",
    "l1_activity",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Autoencoder",
    "ConvAutoencoder",
    "DeepAutoencoder",
    "LinearAutoencoder",
    "TiedAutoencoder",
    "MLP",
    "VGG",
    "AlexNet",
    "BasicBlock",
    "Bottleneck",
    "DepthwiseSeparable",
    "LeNet5",
    "LectureCNN",
    "MobileNet",
    "ResNet",
    "UNet",
    "resnet18",
    "resnet20",
    "resnet56",
    "resnet34",
    "resnet50",
    "resnet_cifar",
    "vgg6",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "TransformerLM",
]

_BUILDERS: dict[str, Callable[..., Module]] = {
    "alexnet": AlexNet,
    "autoencoder": DeepAutoencoder,
    "conditional_vae": ConditionalVAE,
    "conv_autoencoder": ConvAutoencoder,
    "dcgan_discriminator": DCGANDiscriminator,
    "dcgan_generator": DCGANGenerator,
    "lecture_cnn": LectureCNN,
    "lenet5": LeNet5,
    "linear_autoencoder": LinearAutoencoder,
    "mlp": MLP,
    "mobilenet": MobileNet,
    "recurrent_autoencoder": RecurrentAutoencoder,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet56": resnet56,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet_cifar": resnet_cifar,
    "seq2seq": Seq2Seq,
    "tied_autoencoder": TiedAutoencoder,
    "unet": UNet,
    "vae": VAE.fully_connected,
    "vgg6": vgg6,
    "vgg11": vgg11,
    "vgg13": vgg13,
    "vgg16": vgg16,
    "vgg19": vgg19,
}
for _name, _build in _BUILDERS.items():
    register(_name, _build)
