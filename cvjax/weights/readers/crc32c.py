"""Computes CRC-32C (Castagnoli), the checksum of TensorFlow's files, on whole arrays at a time.

A checksum is linear: that of a row of words is the XOR of what each word alone becomes on its way to the end. So
neighbors are merged, then pairs of neighbors, and so on, as many at once as there are. A loop over bytes would take a
minute for 100 MB.
"""

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # with its bits in reverse
_ONES = 0xFFFFFFFF
_LEVELS = 16
_BLOCK = 1 << _LEVELS  # words that are merged into one


def masked_crc32c(data: bytes | np.ndarray) -> int:
    """Returns the checksum of bytes as TensorFlow and LevelDB store it, so that one of checksums stays a good one."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & _ONES


def crc32c(data: bytes | np.ndarray) -> int:
    """Returns the CRC-32C of bytes; of b"123456789" it is 0xE3069283."""
    octets = np.frombuffer(data, np.uint8)
    crc, odd = _ONES, len(octets) % 4
    for octet in octets[:odd].tolist():
        crc = _after_byte(crc ^ octet)
    words = octets[odd:].view("<u4")
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK].astype(np.uint32)
        block[0] ^= np.uint32(crc)
        crc = _merged(block)
    return crc ^ _ONES


def _merged(words: np.ndarray) -> int:
    """Returns the register after words [n], which have been XORed with the register before them."""
    for low, high in _tables():
        if len(words) == 1:
            break
        if len(words) % 2:
            words = np.concatenate([np.zeros(1, np.uint32), words])  # zeros in front change nothing
        words = _moved(words[0::2], low, high) ^ words[1::2]
    return int(_moved(words, *_tables()[0])[0])


def _moved(words: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return low[words & 0xFFFF] ^ high[words >> 16]


@functools.cache
def _tables() -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns what registers become after 1, 2, 4, ... words of zeros, for their lower and their upper 16 bits."""
    columns = np.array([1 << bit for bit in range(32)], np.uint32)
    for _ in range(4):
        columns = np.array([_after_byte(column) for column in columns.tolist()], np.uint32)
    tables = []
    for _ in range(_LEVELS):
        tables.append((_spanned(columns[:16]), _spanned(columns[16:])))
        columns = _moved(columns, *tables[-1])
    return tables


def _spanned(columns: np.ndarray) -> np.ndarray:
    """Returns the XOR of every subset of columns [n] as [2^n], by the subset's bits."""
    sums = np.zeros(1, np.uint32)
    for column in columns:
        sums = np.concatenate([sums, sums ^ column])
    return sums


def _after_byte(register: int) -> int:
    """Returns a register eight bits of zeros later."""
    for _ in range(8):
        register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
    return register
