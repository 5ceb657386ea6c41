"""Functions of functions, as in `torch.func`: derivatives, vmap, functional_call."""

from nnlib.func.calling import functional_call as functional_call
from nnlib.func.mapping import vmap as vmap
from nnlib.func.transforms import grad as grad
from nnlib.func.transforms import grad_and_value as grad_and_value
from nnlib.func.transforms import hessian as hessian
from nnlib.func.transforms import jacfwd as jacfwd
from nnlib.func.transforms import jacrev as jacrev
from nnlib.func.transforms import jvp as jvp
from nnlib.func.transforms import linearize as linearize
from nnlib.func.transforms import vjp as vjp
