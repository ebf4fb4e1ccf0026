"""Three operations that let LLVM turn a plain loop into a vector loop.

A loop ``total = total + x[i]`` or ``least = min(least, x[i])`` over doubles must run in order
unless the compiler is told that order does not matter. Numba's ``fastmath`` tells it for a whole
function, which would also take apart the error-free transformations of the kernels. These functions
say it of one operation; in plain Python they are what they look like.

``add_in_any_order`` is used where either every partial sum is exact or all terms are non-negative;
``smaller`` and ``larger`` only on finite values. Zeros of either sign count as equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

__all__ = ["add_in_any_order", "larger", "smaller"]

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
