"""Tensor, Function, the backward engine, and tools to differentiate and check."""

from nnlib.autograd import functional as functional
from nnlib.autograd.anomaly import detect_anomaly as detect_anomaly
from nnlib.autograd.anomaly import set_detect_anomaly as set_detect_anomaly
from nnlib.autograd.checkpointing import checkpoint as checkpoint
from nnlib.autograd.checkpointing import checkpoint_sequential as checkpoint_sequential
from nnlib.autograd.engine import backward as backward
from nnlib.autograd.engine import grad as grad
from nnlib.autograd.function import Function as Function
from nnlib.autograd.gradcheck import GradcheckError as GradcheckError
from nnlib.autograd.gradcheck import gradcheck as gradcheck
from nnlib.autograd.gradcheck import gradgradcheck as gradgradcheck
from nnlib.autograd.mode import enable_grad as enable_grad
from nnlib.autograd.mode import inference_mode as inference_mode
from nnlib.autograd.mode import is_grad_enabled as is_grad_enabled
from nnlib.autograd.mode import no_grad as no_grad
from nnlib.autograd.mode import set_grad_enabled as set_grad_enabled
from nnlib.autograd.once import once_differentiable as once_differentiable
