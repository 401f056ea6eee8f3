"""Writes own data of any format as COCO JSON or YOLO text."""
