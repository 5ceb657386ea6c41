"""`spread`: one compiled loop, run by the calling thread or shared out to the pool.

Numba's own ``prange`` compiles a loop through a chain of passes of its own, and what
the loop calls once more: a kernel with it takes twice as long to compile as the same
loop without (`nnlib.bench.startup` adds it up), and a serial twin for small arrays is a
third compilation. Here the loop is an ordinary function of a range, compiled once, and
the pool is entered by the function that ``prange`` calls in the end,
``numba_parallel_for``, which every threading layer of Numba has.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, compiler
from numba.extending import intrinsic

__all__ = ["spread"]

_WORD = ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
# The loop as the pool calls it: addresses, counts, steps, data.
_TASK = ir.FunctionType(
    ir.VoidType(), [_BYTES.as_pointer(), _WORD.as_pointer(), _WORD.as_pointer(), _BYTES]
)


@intrinsic  # type: ignore[untyped-decorator]
def spread(typing_context: Any, loop: Any, items: Any, grain: Any, args: Any) -> Any:
    """Call ``loop(first, last, *args)`` for ranges that make up 0 to `items`.

    For use inside `cpu_kernel` functions with ``pool=True``. Each thread gets one
    range; there are no more ranges than one for every `grain` items, and with one the
    calling thread runs it.

    Parameters
    ----------
    loop : body
        Compiled for ints `first` and `last` and the types of `args`. What it returns is
        dropped, and it must not raise.
    items, grain : int
    args : tuple
    """
    given = [types.unliteral(kind) for kind in args.types]

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        compiled = _compile(context, loop.dispatcher, given)
        fields = [
            context.cast(builder, value, old, new)
            for value, old, new in zip(
                cgutils.unpack_tuple(builder, values[3]), args.types, given, strict=True
            )
        ]
        packer = context.get_arg_packer(given)
        leaves = list(packer.as_arguments(builder, fields))
        zero, one = _WORD(0), _WORD(1)
        threads = builder.call(
            cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_WORD, []), "get_num_threads"
            ),
            [],
        )
        wanted = builder.sdiv(values[1], values[2])
        parts = builder.select(
            builder.icmp_signed("<", wanted, threads), wanted, threads
        )
        parts = builder.select(builder.icmp_signed("<", parts, one), one, parts)
        settings = cgutils.pack_struct(builder, [values[1], parts, *leaves])
        data = cgutils.alloca_once_value(builder, settings)
        task = _task(context, builder.module, compiled, packer, settings.type)
        # An address that starts at 0 and moves by 1 counts the parts.
        addresses = cgutils.alloca_once_value(builder, _BYTES(None))
        counts = cgutils.alloca_once_value(builder, parts)
        steps = cgutils.alloca_once_value(builder, one)
        handed = [addresses, counts, steps, builder.bitcast(data, _BYTES)]
        alone = builder.icmp_signed("==", parts, one)
        with builder.if_else(alone) as (then, otherwise):
            with then:
                builder.call(task, handed)
            with otherwise:
                enter = cgutils.get_or_insert_function(
                    builder.module,
                    ir.FunctionType(ir.VoidType(), [_BYTES] * 5 + [_WORD] * 3),
                    "numba_parallel_for",
                )
                pointers = [builder.bitcast(x, _BYTES) for x in (task, *handed)]
                builder.call(enter, [*pointers, zero, one, threads])
        return context.get_dummy_value()

    return types.void(loop, types.int64, types.int64, args), lower


def _compile(context: Any, dispatcher: Any, given: list[Any]) -> Any:
    """Compile the loop into the kernel that is being compiled.

    As a function of its own it would be optimised and made machine code twice: for
    itself, which nobody calls, and in the kernel.
    """
    flags = compiler.Flags()
    dispatcher.targetdescr.options.parse_as_flags(flags, dispatcher.targetoptions)
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    return compiler.compile_internal(
        context.typing_context,
        context,
        context.active_code_library,
        dispatcher.py_func,
        (types.int64, types.int64, *given),
        None,
        flags,
        {},
    )


def _task(context: Any, module: Any, compiled: Any, packer: Any, settings: Any) -> Any:
    """Make the function that the pool calls: it finds its range and runs the loop."""
    name = module.get_unique_name(f"{compiled.fndesc.llvm_func_name}.task")
    task = ir.Function(module, _TASK, name=name)
    task.linkage = "internal"
    # It is called from two places and must not be compiled into both.
    task.attributes.add("noinline")
    builder = ir.IRBuilder(task.append_basic_block())
    addresses, counts, _, data = task.args
    fields = cgutils.unpack_tuple(
        builder, builder.load(builder.bitcast(data, settings.as_pointer()))
    )
    items, parts, *leaves = fields
    begin = builder.ptrtoint(builder.load(addresses), _WORD)
    end = builder.add(begin, builder.load(counts))
    first = builder.sdiv(builder.mul(begin, items), parts)
    last = builder.sdiv(builder.mul(end, items), parts)
    context.call_internal_no_propagate(
        builder, compiled.fndesc, compiled.signature,
        [first, last, *packer.from_arguments(builder, leaves)],
    )  # fmt: skip
    builder.ret_void()
    return task
