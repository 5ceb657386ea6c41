"""Benchmarks against PyTorch: ``python -m nnlib.bench`` runs them all."""
