"""What Numba has no word for: reductions LLVM may turn into vector loops, and a prefetch.

A loop ``total = total + x[i]`` or ``least = min(least, x[i])`` over doubles must run in order
unless the compiler is told that order does not matter. Numba's ``fastmath`` tells it for a whole
function, which would also take apart the error-free transformations of the kernels. These functions
say it of one operation; in plain Python they are what they look like.

``add_in_any_order`` is used where either every partial sum is exact or all terms are non-negative;
``smaller`` and ``larger`` only on finite values. Zeros of either sign count as equal.
``prefetch_for_write`` has no effect but on time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

__all__ = ["add_in_any_order", "larger", "prefetch_for_write", "smaller"]

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
    """Ask for the cache line of ``array[index]``, which is about to be overwritten.

    The index may lie outside the array: a prefetch of memory that is not there does nothing.
    """


@intrinsic  # type: ignore[untyped-decorator]
def _reassociable_add(_typing_context: Any, _a: Any, _b: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fadd(*args, flags=("reassoc",))

    return _BINARY, generate


def _llvm_intrinsic(name: str) -> Callable[..., float]:
    """Return an LLVM intrinsic of two doubles, told that it will see neither NaN nor signed zero.

    Only with these flags on the call itself does the vectoriser see a reduction in it; a compare
    and select, which Numba makes of ``min``, runs at a quarter of the speed.
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
