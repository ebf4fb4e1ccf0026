"""LLVM operations that Numba does not offer: reductions, a prefetch, atomics and fences.

A reduction over doubles, such as ``total = total + x[i]`` or ``least = min(least, x[i])``, must run
in order. The compiler can vectorise it only if it may reorder the operations. Numba's ``fastmath``
permits reordering in a whole function, but then the compiler could also remove the error-free
transformations of the kernels. The functions here permit reordering for a single operation. Without
Numba, as plain Python functions, they return the same results.

``add_in_any_order`` is used only where every partial sum is exact or all terms are non-negative,
``smaller`` and ``larger`` only on finite values. Zeros of either sign count as equal.
``prefetch_for_write`` affects only the speed.

``load_acquire``, ``store_release``, ``fence_acquire`` and ``fence_release`` have the meaning of
their C++ namesakes: compiler and processor do not move reads and writes of shared memory across
them (ISO C++ [atomics.order]; Boehm: Can seqlocks get along with programming language memory
models?, MSPC 2012, doi:10.1145/2247684.2247688).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

__all__ = [
    "add_in_any_order",
    "fence_acquire",
    "fence_release",
    "larger",
    "load_acquire",
    "prefetch_for_write",
    "smaller",
    "store_release",
]

_DOUBLE = ir.DoubleType()
_BINARY = types.float64(types.float64, types.float64)


def add_in_any_order(a: float, b: float) -> float:
    """Return ``a + b``, in a reduction whose terms may be added in any order."""
    return a + b


def smaller(a: float, b: float) -> float:
    """Return the smaller of two finite doubles."""
    return a if a < b else b


def larger(a: float, b: float) -> float:
    """Return the larger of two finite doubles."""
    return a if a > b else b


def prefetch_for_write(array: npt.NDArray[np.float64], index: int) -> None:
    """Prefetch the cache line of ``array[index]``, which is about to be overwritten.

    The index may lie outside the array: a prefetch of an unmapped address does nothing.
    """


def load_acquire(words: npt.NDArray[np.int64], index: int) -> int:
    """Return ``words[index]``; no later read or write moves before it."""
    return words[index]  # type: ignore[no-any-return]


def store_release(words: npt.NDArray[np.int64], index: int, value: int) -> None:
    """Set ``words[index]``; no earlier read or write moves behind it."""
    words[index] = value


def fence_acquire() -> None:
    """Keep earlier reads before later reads and writes."""


def fence_release() -> None:
    """Keep earlier reads and writes before later writes."""


@intrinsic  # type: ignore[untyped-decorator]
def _reassociable_add(_typing_context: Any, _a: Any, _b: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fadd(*args, flags=("reassoc",))

    return _BINARY, generate


def _llvm_intrinsic(name: str) -> Callable[..., float]:
    """Return an LLVM intrinsic of two doubles, with the fast-math flags nnan and nsz.

    The vectoriser recognises a reduction only with these flags on the call itself. Numba compiles
    ``min`` to a compare and a select, which runs at a quarter of the speed.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def call(_typing_context: Any, _a: Any, _b: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            function_type = ir.FunctionType(_DOUBLE, [_DOUBLE, _DOUBLE])
            function = builder.module.declare_intrinsic(name, [_DOUBLE], function_type)
            return builder.call(function, args, fastmath=("nnan", "nsz"))

        return _BINARY, generate

    return call  # type: ignore[no-any-return]


_minnum = _llvm_intrinsic("llvm.minnum")
_maxnum = _llvm_intrinsic("llvm.maxnum")


@overload(add_in_any_order, strict=False)  # type: ignore[untyped-decorator]
def _add_in_any_order(a: Any, b: Any) -> Callable[..., float]:
    return lambda a, b: _reassociable_add(a, b)  # noqa: PLW0108 - Numba wants a function


@overload(smaller, strict=False)  # type: ignore[untyped-decorator]
def _smaller(a: Any, b: Any) -> Callable[..., float]:
    return lambda a, b: _minnum(a, b)  # noqa: PLW0108 - Numba wants a function


@overload(larger, strict=False)  # type: ignore[untyped-decorator]
def _larger(a: Any, b: Any) -> Callable[..., float]:
    return lambda a, b: _maxnum(a, b)  # noqa: PLW0108 - Numba wants a function


@intrinsic  # type: ignore[untyped-decorator]
def _llvm_prefetch(_typing_context: Any, array: Any, _index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        int32 = ir.IntType(32)
        address = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        function = builder.module.declare_intrinsic(
            "llvm.prefetch.p0",
            (),
            ir.FunctionType(ir.VoidType(), [address.type, int32, int32, int32]),
        )
        for_write, keep_close, data_cache = int32(1), int32(3), int32(1)
        builder.call(function, [address, for_write, keep_close, data_cache])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@overload(prefetch_for_write, strict=False)  # type: ignore[untyped-decorator]
def _prefetch_for_write(array: Any, index: Any) -> Callable[..., None]:
    return lambda array, index: _llvm_prefetch(array, index)  # noqa: PLW0108 - Numba wants a function


_INT64_BYTES = 8


def _address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Return the address of ``args[0][args[1]]``, for read-only arrays too."""
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.gep(data, [args[1]])


@intrinsic  # type: ignore[untyped-decorator]
def _llvm_load_acquire(_typing_context: Any, words: Any, _index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature, args)
        return builder.load_atomic(address, "acquire", _INT64_BYTES)

    return types.int64(words, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _llvm_store_release(_typing_context: Any, words: Any, _index: Any, _value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature, args)
        builder.store_atomic(args[2], address, "release", _INT64_BYTES)
        return context.get_dummy_value()

    return types.void(words, types.int64, types.int64), generate


def _llvm_fence(ordering: str) -> Callable[[], None]:
    @intrinsic  # type: ignore[untyped-decorator]
    def call(_typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
            builder.fence(ordering)
            return context.get_dummy_value()

        return types.void(), generate

    return call  # type: ignore[no-any-return]


_llvm_fence_acquire = _llvm_fence("acquire")
_llvm_fence_release = _llvm_fence("release")


@overload(load_acquire, strict=False)  # type: ignore[untyped-decorator]
def _load_acquire(words: Any, index: Any) -> Callable[..., int]:
    return lambda words, index: _llvm_load_acquire(words, index)  # noqa: PLW0108


@overload(store_release, strict=False)  # type: ignore[untyped-decorator]
def _store_release(words: Any, index: Any, value: Any) -> Callable[..., None]:
    return lambda words, index, value: _llvm_store_release(words, index, value)  # noqa: PLW0108


@overload(fence_acquire, strict=False)  # type: ignore[untyped-decorator]
def _fence_acquire() -> Callable[[], None]:
    return lambda: _llvm_fence_acquire()  # noqa: PLW0108


@overload(fence_release, strict=False)  # type: ignore[untyped-decorator]
def _fence_release() -> Callable[[], None]:
    return lambda: _llvm_fence_release()  # noqa: PLW0108
