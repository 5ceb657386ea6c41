"""Pictures: learning curves, decision regions, images (extra ``viz``)."""

from nnlib.viz.curves import plot_history
from nnlib.viz.figures import VizError, new_figure, save
from nnlib.viz.graph import make_dot
from nnlib.viz.pictures import plot_decision_regions, show_images

__all__ = [
    "VizError",
    "make_dot",
    "new_figure",
    "plot_decision_regions",
    "plot_history",
    "save",
    "show_images",
]
