"""Images, folders and videos in; faces with their box and named probabilities out. Nothing heavy is loaded before it is used."""
from importlib import import_module

_NAMES = dict(images="ANNOTATED IMAGES VIDEOS open_image walk sources read_video", annotate="annotate_faces percent",
              detect="DETECTORS CenterFace Detection HaarDetector cut_face detector_name get_detector merge_boxes square",
              backends="BACKENDS OnnxNetwork TorchNetwork load_network", predictor="COLUMNS NO_FACE TABLES Face Picture Predictor check_out save_results",
              command="SHOWN check_request faces_table predict_paths", video="Tracker Timeline plot_timeline VideoWriter AnnotatedVideo")
_HOMES = {name: (module, name) for module, names in _NAMES.items() for name in names.split()}
_HOMES |= dict(open_picture=("images", "open_image"), draw_faces=("annotate", "annotate_faces"), branch_names=(".models.psr", "branch_names")) # old names, for one release
__all__ = [*_HOMES]

def __getattr__(name:str)->object:
    if name not in _HOMES: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, name = _HOMES[name]
    return getattr(import_module(f".{module}", __name__), name)
