"""Tasks and transforms from single settings, wherever in a configuration they belong."""

import dataclasses
from typing import Any

from cvjax.tasks.classification.config import ClassificationConfig
from cvjax.tasks.classification.task import Classification
from cvjax.tasks.classification.transforms import ClassificationData, RandomCrop
from cvjax.tasks.detection.config import DetectionConfig
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.detection.transforms import BoxTrainTransform, DetectionData
from cvjax.tasks.object_masks.config import ObjectMasksConfig
from cvjax.tasks.object_masks.task import ObjectMasks
from cvjax.tasks.object_masks.transforms import ObjectCrop, ObjectMasksData
from cvjax.tasks.scale_crop import ScaleAndCropData, TrainTransform
from cvjax.tasks.segmentation.config import SegmentationConfig
from cvjax.tasks.segmentation.task import Segmentation
from cvjax.tasks.segmentation.transforms import SegmentationData
from cvjax.tasks.segmentation.warp import WarpTransform


def _split(kind: type, settings: dict[str, Any]) -> dict[str, Any]:
    """Takes the settings that are fields of a class."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: settings.pop(name) for name in list(settings) if name in names}


def _task(task: type, config: Any, class_names: tuple[str, ...], settings: dict[str, Any]) -> Any:
    own = _split(task, settings)
    run = _split(type(config), settings)
    data, scoring = _split(type(config.input), settings), _split(type(config.eval), settings)
    assert not settings, settings
    inner = {"input": dataclasses.replace(config.input, **data), "eval": dataclasses.replace(config.eval, **scoring)}
    return task(dataclasses.replace(config, **inner, **run), tuple(class_names), **own)


def segmentation(class_names: tuple[str, ...], **settings: Any) -> Segmentation:
    return _task(Segmentation, SegmentationConfig(), class_names, settings)


def classification(class_names: tuple[str, ...], **settings: Any) -> Classification:
    return _task(Classification, ClassificationConfig(), class_names, settings)


def detection(class_names: tuple[str, ...], **settings: Any) -> Detection:
    return _task(Detection, DetectionConfig(), class_names, settings)


def object_masks(class_names: tuple[str, ...], **settings: Any) -> ObjectMasks:
    return _task(ObjectMasks, ObjectMasksConfig(), class_names, settings)


def _transform(transform: type, data: type, crop: Any, settings: dict[str, Any]) -> Any:
    if crop is not None:
        settings["crop"] = crop
    fields = _split(data, settings)
    return transform(data(**fields), **settings)


def train_transform(crop: Any = None, **settings: Any) -> TrainTransform:
    return _transform(TrainTransform, ScaleAndCropData, crop, settings)


def warp_transform(crop: Any = None, **settings: Any) -> WarpTransform:
    return _transform(WarpTransform, SegmentationData, crop, settings)


def random_crop(crop: Any = None, **settings: Any) -> RandomCrop:
    return _transform(RandomCrop, ClassificationData, crop, settings)


def box_transform(crop: Any = None, **settings: Any) -> BoxTrainTransform:
    return _transform(BoxTrainTransform, DetectionData, crop, settings)


def object_crop(crop: Any = None, **settings: Any) -> ObjectCrop:
    return _transform(ObjectCrop, ObjectMasksData, crop, settings)
