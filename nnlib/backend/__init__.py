"""Array worlds: devices, dtypes, memory, threads, random state.

The lowest room: it imports nothing of nnlib above it, and it alone imports CuPy.
"""

# First of all, because it sets how libraries' threads wait that are loaded later.
from nnlib.backend import threads as threads
