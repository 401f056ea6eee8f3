"""Reads data sets of parquet files, as Hugging Face's hub has them, without the library `datasets`."""

from cvjax.datasets.own.parquet.opening import held as held
from cvjax.datasets.own.parquet.opening import open_rows as open_rows
from cvjax.datasets.own.parquet.tables import recognize as recognize
from cvjax.datasets.own.parquet.tables import splits as splits
