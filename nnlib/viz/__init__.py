"""Pictures: curves, decision regions, images, networks (extra ``viz``)."""

from nnlib.viz.curves import plot_history
from nnlib.viz.fields import receptive_field, show_receptive_field
from nnlib.viz.figures import VizError, new_figure, save
from nnlib.viz.graph import make_dot
from nnlib.viz.networks import (
    confusion_matrix,
    plot_confusion_matrix,
    show_feature_maps,
    show_filters,
    show_misclassified,
)
from nnlib.viz.pictures import plot_decision_regions, show_images
from nnlib.viz.word_map import plot_words, project

__all__ = [
    "VizError",
    "confusion_matrix",
    "make_dot",
    "new_figure",
    "plot_confusion_matrix",
    "plot_decision_regions",
    "plot_history",
    "plot_words",
    "project",
    "receptive_field",
    "save",
    "show_feature_maps",
    "show_filters",
    "show_images",
    "show_misclassified",
    "show_receptive_field",
]
