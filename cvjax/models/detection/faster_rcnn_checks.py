"""Checks the fields of Faster R-CNN."""

from typing import Any

from cvjax.errors import ConfigError
from cvjax.models.classification.vgg import VGG


def check_fields(net: Any) -> None:
    """Refuses values of fields that cannot be.

    Args:
      net: A `FasterRCNN`.

    Raises:
      ConfigError: A value that cannot be.
    """
    if net.num_classes < 1:
        raise ConfigError(f"a detector has at least one class beside background, not {net.num_classes}")
    if net.fpn is not None and net.box_head is None:
        raise ConfigError("a detector with a feature pyramid needs a box_head, such as DenseHead(0, window=7)")
    if net.region_reader not in ("roi_pool", "corner_align"):
        raise ConfigError(f"region_reader is 'roi_pool' or 'corner_align', not {net.region_reader!r}")
    for_one_map = (net.inclusive_boxes, net.floor_pools, not net.round_anchors, net.region_reader != "roi_pool")
    if net.fpn is not None and any(for_one_map):
        raise ConfigError(
            "inclusive_boxes, floor_pools, round_anchors=False and region_reader are for a detector without a pyramid"
        )
    if net.floor_pools and not isinstance(net.backbone, VGG):
        raise ConfigError(f"floor_pools is for a VGG, and the backbone is a {type(net.backbone).__name__}")
    counts = (*net.rpn_pre_nms_top_n, *net.rpn_post_nms_top_n)
    counts += (net.rpn_batch_size_per_image, net.rois_per_image, net.max_detections)
    if min(counts) < 1:
        raise ConfigError(
            "rpn_pre_nms_top_n, rpn_post_nms_top_n, rpn_batch_size_per_image, rois_per_image and max_detections are"
            " at least 1 each"
        )
    if min(*net.bbox_reg_weights, net.rpn_beta, net.box_beta) <= 0:
        raise ConfigError("bbox_reg_weights, rpn_beta and box_beta are above 0")
    if not 0 <= net.positive_fraction <= 1 or not 0 <= net.bg_iou_low <= 0.5:
        raise ConfigError(
            f"positive_fraction is a part of the regions and bg_iou_low an IoU of at most 0.5; they are "
            f"{net.positive_fraction} and {net.bg_iou_low}"
        )
