"""Opens people's own data in the formats that they hold: recognizes file or folder, checks it, reads it in place."""

from cvjax.datasets.own.opening import NAME as NAME
from cvjax.datasets.own.opening import open_own as open_own
from cvjax.datasets.own.opening import splits_of as splits_of
