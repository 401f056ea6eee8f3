"""Commands to copy, which pages of help end with, by the name of their command."""

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "train": (
        "cvjax train deeplab_voc quick",
        "cvjax train camvid quick --input.manual-dir FOLDER --steps 600",
        "cvjax train deeplab_voc quick --resume",
    ),
    "lr": ("cvjax lr deeplab_voc quick", "cvjax lr resnet_imagenet quick --high 1 --json lr.json"),
    "evaluate": (
        "cvjax evaluate runs/deeplab_voc/quick --json report.json",
        "cvjax evaluate --weights resnet50 --data imagenet2012",
    ),
    "predict": (
        "cvjax predict runs/deeplab_voc/quick a.jpg --out predictions",
        "cvjax predict --weights resnet50 a.jpg",
    ),
    "convert": (
        "cvjax convert runs/resnet_imagenet/quick mine.safetensors",
        "cvjax convert resnet50.pth resnet50.npz",
        "cvjax convert runs/resnet_imagenet/quick runs/average --average 2",
    ),
    "models": (
        "cvjax models",
        "cvjax models resnet* --weights",
        "cvjax models --task detection --json models.json",
    ),
    "inspect": (
        "cvjax inspect resnet50 --depth 1",
        "cvjax inspect deeplabv3plus_resnet50 --size 513 --options output_stride=8",
    ),
    "crf": ("cvjax crf a.jpg a.npy --crf v2",),
    "crf-search": ("cvjax crf-search runs/deeplab_voc/quick --images 20",),
    "aot": ("cvjax aot resnet_imagenet imagenet --topology v5e:4x4",),
    "data prepare": (
        "cvjax data prepare voc_segmentation --manual-dir FOLDER",
        "cvjax data prepare scenes",
    ),
    "data boxes": ("cvjax data boxes xml_folder_detection --manual-dir FOLDER",),
    "data look": (
        "cvjax data look FOLDER --html look.html",
        "cvjax data look FOLDER --like yolo_voc/quick --input.flip 0",
    ),
    "data check": ("cvjax data check FOLDER --html check.html --strict",),
    "data propose": ("cvjax data propose voc_detection --split trainval2007 --mode fast",),
    "completion": (
        'eval "$(cvjax completion bash)"    # in ~/.bashrc',
        'eval "$(cvjax completion zsh)"     # in ~/.zshrc',
    ),
    "sweep": ("cvjax sweep deeplab_voc quick --vary optim.learning-rate=log:0.001..0.1 --trials 8 -- --steps 300",),
    "study": (
        "cvjax study depth --data FOLDER",
        "cvjax study parameters kernels",
        "cvjax study all --trial",
    ),
    "data doubt": ("cvjax data doubt runs/deeplab_voc/quick --html doubt.html",),
    "compare": ("cvjax compare runs/camvid/quick runs/camvid/quick_deeplab --html compare.html",),
}
