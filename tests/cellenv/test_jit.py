import pytest
from numba.core import caching

from cellenv.jit import compiled


def double(x):
    return 2 * x


def test_functions_are_compiled_where_no_cache_can_be_written(monkeypatch):
    assert type(compiled(double)._cache) is caching.FunctionCache
    monkeypatch.setattr(caching.FunctionCache._impl_class, "_locator_classes", [])  # as in a read-only installation
    with pytest.raises(RuntimeError, match="no locator"):
        caching.FunctionCache(double)
    assert compiled(double)(3) == 6
