"""Compilation of loops over pixels, also where nothing can be written: a read-only installation without a home."""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """The function compiled by Numba without the GIL; kept on disk for the next process, if there is a place for it."""
    try:
        return cast(Function, njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no folder for the cache can be written
        return cast(Function, njit(nogil=True)(function))
