"""This package is the embedded dataset `scenes`: drawn by the project, the same everywhere, for all three tasks.

`prepare.prepare_scenes` puts it on disk and gives its builder; `objects.CLASS_NAMES` names its classes;
`render.render` draws one example; `builder.Scenes` is the TFDS builder. Importing this package imports none of these
modules, so that a process that only draws starts fast.
"""
