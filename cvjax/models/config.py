"""A model's configuration names the architecture that a run trains, and the options that differ from its defaults."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import flax.linen as nn

Options = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, init=False)
class ModelConfig:
    """Holds an architecture with changed options, as a value.

    `ModelConfig("deeplabv3plus_resnet18", aspp_features=48, norm={"momentum": 0.95}, backbone={"width": 32})` has the
    arguments of `create_model`, except for the number of classes. JSON can hold all of it.

    Attributes:
      name: One of `cvjax.list_models()`.
      options: Options that differ from the defaults, by name. A mapping holds fields of `norm` or of a backbone.
    """

    name: str
    options: Options

    def __init__(self, name: str, /, **options: Any) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "options", frozen(options))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Makes a configuration from a name and options, as JSON holds them."""
        return cls(values["name"], **values["options"])

    def build(self, num_classes: int) -> "nn.Module":
        """Builds the module, see `cvjax.create_model`.

        Raises:
          ConfigError: An unknown name or option.
        """
        from cvjax.models.registry import create_model  # late: a configuration alone needs no JAX

        return create_model(self.name, num_classes=num_classes, **self.options)

    def get(self, option: str) -> Any:
        """Returns the value of an option.

        An option that is not changed has the architecture's default. An option that does not exist gives None.
        """
        from cvjax.models.registry import model_options

        return self.options.get(option, model_options(self.name).get(option))

    def replace(self, name: str | None = None, /, **options: Any) -> "ModelConfig":
        """Returns the configuration with another name or with more options; mappings are merged."""
        return ModelConfig(name or self.name, **_merged(self.options, options))

    def with_name(self, name: str) -> tuple["ModelConfig", list[str]]:
        """Returns the configuration of another architecture, and the names of the options that it lacks.

        It keeps the options that both architectures have.

        Raises:
          ConfigError: An unknown name.
        """
        from cvjax.models.registry import model_options

        before, known, kept, dropped = model_options(self.name), {**model_options(name), "dtype": None}, {}, []
        for option, value in self.options.items():
            # Fields of another class of backbone mean something else, though they may have the same names.
            same = not isinstance(value, Mapping) or type(before[option]) is type(known.get(option))
            if option in known and same:
                kept[option] = value
            else:
                dropped += [f"{option}.{field}" for field in value] if isinstance(value, Mapping) else [option]
        return ModelConfig(name, **kept), dropped

    def __hash__(self) -> int:
        return hash((self.name, repr(self.options)))


def frozen(value: Any) -> Any:
    """Turns lists into tuples at every depth, because fields of Flax modules must be hashable."""
    if isinstance(value, Mapping):
        return {key: frozen(item) for key, item in value.items()}
    return tuple(frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _merged(before: Options, after: Options) -> dict[str, Any]:
    merged = dict(before)
    for option, value in after.items():
        old = merged.get(option)
        merged[option] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
