"""Array worlds: devices, dtypes, memory, threads, random state.

The lowest room: it imports nothing of nnlib above it, and it alone imports CuPy.
"""
