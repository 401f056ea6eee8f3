"""The field's claims, each as a study that runs on a laptop: `cvjax study` lists them, docs/lessons.md shows them."""
