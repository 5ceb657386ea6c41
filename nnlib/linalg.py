"""Linear algebra on the last two dimensions: the functions of ``torch.linalg``.

Each is documented where it is defined, in ``nnlib/ops`` (``linear_systems``,
``decompositions``, ``lu``, ``matrix_norms``, ``matrix_functions``).
"""

from nnlib.backend.errors import LinAlgError
from nnlib.ops.decompositions import linalg_cholesky as cholesky
from nnlib.ops.decompositions import linalg_eigh as eigh
from nnlib.ops.decompositions import linalg_eigvalsh as eigvalsh
from nnlib.ops.decompositions import linalg_qr as qr
from nnlib.ops.decompositions import linalg_svd as svd
from nnlib.ops.decompositions import linalg_svdvals as svdvals
from nnlib.ops.determinants import linalg_det as det
from nnlib.ops.determinants import linalg_slogdet as slogdet
from nnlib.ops.linear_systems import linalg_diagonal as diagonal
from nnlib.ops.linear_systems import linalg_inv as inv
from nnlib.ops.linear_systems import linalg_lstsq as lstsq
from nnlib.ops.linear_systems import linalg_matrix_power as matrix_power
from nnlib.ops.linear_systems import linalg_matrix_rank as matrix_rank
from nnlib.ops.linear_systems import linalg_pinv as pinv
from nnlib.ops.linear_systems import linalg_solve as solve
from nnlib.ops.lu import linalg_lu as lu
from nnlib.ops.lu import linalg_lu_factor as lu_factor
from nnlib.ops.lu import linalg_lu_solve as lu_solve
from nnlib.ops.matmul import matmul
from nnlib.ops.matrix_functions import linalg_cond as cond
from nnlib.ops.matrix_functions import linalg_matrix_exp as matrix_exp
from nnlib.ops.matrix_functions import linalg_multi_dot as multi_dot
from nnlib.ops.matrix_functions import linalg_solve_triangular as solve_triangular
from nnlib.ops.matrix_functions import linalg_tensorinv as tensorinv
from nnlib.ops.matrix_functions import linalg_tensorsolve as tensorsolve
from nnlib.ops.matrix_functions import linalg_vander as vander
from nnlib.ops.matrix_functions import linalg_vecdot as vecdot
from nnlib.ops.matrix_norms import linalg_cross as cross
from nnlib.ops.matrix_norms import linalg_matrix_norm as matrix_norm
from nnlib.ops.matrix_norms import linalg_norm as norm
from nnlib.ops.matrix_norms import linalg_vector_norm as vector_norm

__all__ = [
    "LinAlgError",
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "lstsq",
    "lu",
    "lu_factor",
    "lu_solve",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "multi_dot",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensorinv",
    "tensorsolve",
    "vander",
    "vecdot",
    "vector_norm",
]
