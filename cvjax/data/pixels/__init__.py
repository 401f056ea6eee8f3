"""Reads headers and pixels of the image formats that need more than a call of OpenCV; `cvjax.data.decode` uses them."""
