"""A GPU that is not there: tensors that say they are on it, and whose values the CPU computes.

Whatever trains on a real one trains on this, to real numbers: a graphics card that is pretended
raises where tensors of two devices meet and, as Apple's, where a number has 64 bits. It notes each
operation, and each for which the host would have to wait.

Not pretended: kernels, streams, memory, NCCL, ``torch.compile``. Autograd's own engine asks a
driver for streams, so that ``backward`` walks the graph in Python.
"""

import traceback
from collections import Counter
from contextlib import ExitStack
from importlib import import_module
from typing import Any, Self
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

aten = torch.ops.aten

_ASKERS = ("lightning", "/tests/devices/", "/torch/optim/", "/torch/amp/")
_WIDE = (torch.float64, torch.complex128)
# copies may cross; an index may lie on the CPU, which costs a wait
_ACROSS = (aten._to_copy.default, aten.copy_.default, aten._pin_memory.default)
_INDEXED = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)


class OnGPU(Tensor):
    """A tensor whose values are another's, on the CPU."""

    content: Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, values: Tensor, device: torch.device) -> "OnGPU":
        # to torch's own code it is on no device, which needs no driver, and is asked for its own
        with torch.inference_mode(False):
            shape = torch.empty_strided(
                values.shape, values.stride(), dtype=values.dtype, device="meta"
            )
            made: OnGPU = Tensor._make_subclass(
                cls, shape, False, dispatch_device=True, device_for_backend_keys=device
            )
        made.content, made.place = values, device
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    @property
    def is_mps(self) -> bool:  # type: ignore[override]
        return self.place.type == "mps"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default:
            return _told_to_torch(args[0])
        assert PretendedGPU.current is not None, func  # e.g. in a thread
        return PretendedGPU.current.__torch_dispatch__(func, types, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copy = self.detach().clone()
        if isinstance(self, nn.Parameter):
            copy = nn.Parameter(copy, self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.content.detach().__reduce_ex__(protocol)  # as read with map_location="cpu"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec)  # a GPU's tensor of one number has this, too

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert {self.place} device type tensor to numpy")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnGPU({self.content})"


def _told_to_torch(tensor: OnGPU) -> torch.device:
    """What torch's own code learns: it would look for a Mac's driver, which a Linux build lacks."""
    return torch.device("meta") if tensor.is_mps else tensor.place


class _Generator:
    """The global generator of the device: a position that each draw moves on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seed: int | None = None
        self.offset = 0

    def manual_seed(self, seed: int) -> Self:
        self.seed, self.offset = seed, 0
        return self

    def get_offset(self) -> int:
        return self.offset

    def get_state(self) -> Tensor:
        return torch.tensor(
            [self.seed is not None, (self.seed or 0) >> 1, (self.seed or 0) & 1, self.offset]
        ).view(torch.uint8)

    def set_state(self, state: Tensor) -> None:
        seeded, half, odd, self.offset = state.view(torch.int64).tolist()
        self.seed = 2 * half + odd if seeded else None


class PretendedGPU(TorchDispatchMode):
    """The device, while the context lasts.

    Args:
        kind: ``cuda`` or ``mps``.
    """

    current: "PretendedGPU | None" = None

    def __init__(self, kind: str = "cuda") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = torch.device(kind, 0)
        self.phase = "set-up"
        """What the waits and kernels to come are counted under."""
        self.waits: Counter[tuple[str, str, str]] = Counter()
        """How often the host waited: by phase, operation, and who asked."""
        self.operations: set[Any] = set()
        """What ran on the device."""
        self.kernels: Counter[str] = Counter()
        """How many operations there were, by phase."""
        self.generator = _Generator(self.device)
        self.pinned: set[int] = set()
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        for name, value in _PATCHES.items():
            self._patches.enter_context(mock.patch(name, value, create=True))
        for name, value in (_OF_CUDA if self.device.type == "cuda" else _OF_MPS)(self).items():
            self._patches.enter_context(mock.patch(name, value, create=True))
        optimizer = import_module("torch.optim.optimizer")  # several tensors in one operation
        types = [*optimizer._foreach_supported_types, OnGPU]
        several = mock.patch.object(optimizer, "_foreach_supported_types", types)
        self._patches.enter_context(several)
        # else a module that is moved would put our tensors into the parameters that it has
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        torch._C._ensureCUDADeviceGuardSet()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=…) shows us its copy
        torch._C._set_cudnn_enabled(False)  # its batch normalisation is a CUDA kernel
        PretendedGPU.current = self
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        PretendedGPU.current = None
        torch._C._set_cudnn_enabled(True)
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        self._patches.close()

    def waits_in(self, *phases: str) -> dict[str, int]:
        """How often the host waited in some phases, by what and who, as ``what at whom``."""
        return {f"{what} at {who}": n for (p, what, who), n in self.waits.items() if p in phases}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default:
            return _told_to_torch(args[0])
        kwargs = dict(kwargs or {})
        flat, structure = tree_flatten((args, kwargs))
        ours = [x for x in flat if isinstance(x, OnGPU)]
        asked = kwargs.get("device")
        to = torch.device(asked).type if asked is not None else None
        if to == "meta":  # what torch's own code takes a Mac's for
            to = self.device.type
        if not ours and to != self.device.type:
            return func(*args, **kwargs)
        self._check_devices(func, flat, ours)
        self._note_waits(func, flat, ours, args, kwargs, to)
        self.operations.add(func)
        if not _is_view(func):
            self.kernels[self.phase] += 1
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.generator.offset += 4
        known = {id(x.content): x for x in ours}
        plain_args, plain = tree_unflatten(
            [x.content if isinstance(x, OnGPU) else x for x in flat], structure
        )
        if to is not None:
            plain["device"] = torch.device("cpu")
        if plain.get("pin_memory"):
            plain["pin_memory"] = False
        result = func(*plain_args, **plain)
        if func is aten.copy_.default and not isinstance(args[0], OnGPU):
            return args[0]
        stays = to in (None, self.device.type)

        def wrap(x: Any) -> Any:
            if not isinstance(x, Tensor) or not stays:
                return x
            if id(x) in known:
                return known[id(x)]
            self._check_width(func, x)
            return OnGPU(x, self.device)

        return tree_map(wrap, result)

    def _check_devices(self, func: Any, flat: list[Any], ours: list[OnGPU]) -> None:
        if func in _ACROSS or func in _INDEXED or not ours:
            return
        for x in flat:
            if isinstance(x, Tensor) and not isinstance(x, OnGPU) and x.dim():
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found {self.device} and "
                    f"cpu in {func}"
                )

    def _check_width(self, func: Any, made: Tensor) -> None:
        if self.device.type == "mps" and made.dtype in _WIDE:
            raise TypeError(f"MPS has no {made.dtype}, which {func} makes")

    def _note_waits(
        self,
        func: Any,
        flat: list[Any],
        ours: list[OnGPU],
        args: Any,
        kwargs: dict[str, Any],
        to: str | None,
    ) -> None:
        of_values = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
        if ours and any(tag in func.tags for tag in of_values):
            self._note(str(func))
        elif func is aten._to_copy.default and (source := args[0].device.type) != (to or source):
            if not (kwargs.get("non_blocking") and id(args[0]) in self.pinned):
                self._note(f"copy to {to}")
        elif func is aten.copy_.default and args[0].device.type != args[1].device.type:
            self._note(f"copy to {args[0].device.type}")
        elif func in _INDEXED and ours:
            for index in args[1]:
                if isinstance(index, Tensor) and (
                    index.dtype is torch.bool or index.device.type == "cpu"
                ):
                    self._note(f"index by {index.dtype} on {index.device.type}")

    def _note(self, what: str) -> None:
        asked = [
            frame
            for frame in traceback.extract_stack()
            if any(part in frame.filename for part in _ASKERS)
        ]
        who = " < ".join(
            f"{'/'.join(f.filename.split('/')[-2:])}:{f.lineno} {f.name}"
            for f in reversed(asked[-3:])
        )
        self.waits[self.phase, what, who] += 1


def _is_view(func: Any) -> bool:
    name = func._schema.name.split("::")[1]
    made = ("detach", "_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty")
    return func.is_view or name in made


def _backward(loss: Tensor, *args: Any, **kwargs: Any) -> None:
    """What autograd's engine does, in this thread."""
    root: Any = loss.grad_fn
    waiting: Counter[Any] = Counter()
    seen, left = {root}, [root]
    while left:
        for following, _ in left.pop().next_functions:
            if following is not None:
                waiting[following] += 1
                if following not in seen:
                    seen.add(following)
                    left.append(following)
    arrived: dict[Any, dict[int, Tensor]] = {root: {0: torch.ones_like(loss)}}
    ready = [root]
    with torch.no_grad():
        while ready:
            node = ready.pop()
            got = arrived.pop(node, {})
            gives: Any = (None,) * len(node.next_functions)
            if got:
                count = max(1, len(getattr(node, "_input_metadata", ())), max(got) + 1)
                gives = node(*(got.get(i) for i in range(count)))
                gives = gives if isinstance(gives, tuple) else (gives,)
            for (following, place), gradient in zip(node.next_functions, gives, strict=False):
                if following is None:
                    continue
                if gradient is not None:
                    gradient = _shaped(gradient, following, place)
                    of = arrived.setdefault(following, {})
                    of[place] = of[place] + gradient if place in of else gradient
                waiting[following] -= 1
                if not waiting[following]:
                    ready.append(following)


def _shaped(gradient: Tensor, node: Any, place: int) -> Tensor:
    """As the node's output was: what was broadcast is summed up, in its own type."""
    variable = getattr(node, "variable", None)
    made = node._input_metadata[place] if variable is None else variable
    return gradient.sum_to_size(tuple(made.shape)).to(made.dtype)


def _pinned(tensor: Tensor, *_: Any) -> Tensor:
    assert PretendedGPU.current is not None
    copy = tensor.clone()
    PretendedGPU.current.pinned.add(id(copy))
    return copy


_PATCHES: dict[str, Any] = {"torch.Tensor.backward": _backward, "torch.Tensor.pin_memory": _pinned}


def _of_cuda(gpu: PretendedGPU) -> dict[str, Any]:
    return {
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.is_initialized": lambda: True,
        "torch.cuda._lazy_init": lambda: None,
        "torch.cuda.device_count": lambda: 1,
        "torch.cuda.current_device": lambda: 0,
        "torch.cuda.set_device": lambda device: None,
        "torch.cuda.empty_cache": lambda: None,
        "torch.cuda.get_device_capability": lambda device=None: (9, 0),
        "torch.cuda.get_device_name": lambda device=None: "pretended",
        "torch.cuda.is_bf16_supported": lambda including_emulation=True: True,
        "torch.cuda.mem_get_info": lambda device=None: (80 << 30, 80 << 30),
        "torch.cuda.default_generators": (gpu.generator,),
        "torch._C._cuda_clearCublasWorkspaces": lambda: None,
    }


def _of_mps(gpu: PretendedGPU) -> dict[str, Any]:
    here = "lightning_fabric.accelerators.mps.MPSAccelerator.is_available"
    return {
        here: staticmethod(lambda: True),
        "torch.backends.mps.is_available": lambda: True,
        "torch.mps._get_default_mps_generator": lambda: gpu.generator,
    }


_OF_CUDA, _OF_MPS = _of_cuda, _of_mps
