"""An "nccl" backend for virtual devices: gloo over copies on the host. Refuses CPU tensors.

Processes need VIRTUAL_CUDA_DEVICES of at least their number on the machine.
"""

import datetime

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d
from torch.futures import Future


def _done(result) -> "dist.Work":
    future = Future()
    future.set_result(result)
    return torch._C._distributed_c10d._create_work_from_future(future)


class VirtualNCCL(dist.ProcessGroup):
    class Options:
        is_high_priority_stream = False
        _timeout = datetime.timedelta(minutes=10)
        global_ranks_in_group: list = []
        group_name = ""

    def __init__(self, store, rank: int, size: int, options=None) -> None:
        super().__init__(rank, size)
        timeout = (options or self.Options())._timeout
        self._gloo = dist.ProcessGroupGloo(dist.PrefixStore("virtual", store), rank, size, timeout)

    def _run(self, name: str, *args, targets):
        """Call gloo with host copies of the tensors; bring back those of ``targets``."""
        pairs = []

        def host(value):
            if isinstance(value, (list, tuple)):
                return [host(v) for v in value]
            if not isinstance(value, torch.Tensor):
                return value
            if not value.is_cuda:
                raise RuntimeError("No backend type associated with device type cpu")
            if not value.is_contiguous():
                raise ValueError("Tensors must be contiguous")  # as NCCL's
            copy = value.detach().cpu()
            pairs.append((value, copy))
            return copy

        getattr(self._gloo, name)(*[host(a) for a in args]).wait()
        wanted = {id(t) for t in _flat(targets)}
        for value, copy in pairs:
            if id(value) in wanted:
                with torch.no_grad():
                    value.detach().copy_(copy)
        return _done(targets)

    def broadcast(self, tensors, opts=None):
        return self._run("broadcast", tensors, opts or dist.BroadcastOptions(), targets=tensors)

    def allreduce(self, tensors, opts=None):
        opts = opts or dist.AllreduceOptions()
        if opts.reduceOp == dist.ReduceOp.AVG:  # gloo has none
            opts.reduceOp = dist.ReduceOp.SUM
            self._run("allreduce", tensors, opts, targets=tensors)
            for t in tensors:
                t.div_(self.size())
            return _done(tensors)
        return self._run("allreduce", tensors, opts, targets=tensors)

    def allreduce_coalesced(self, tensors, opts=None):
        for t in tensors:
            one = dist.AllreduceOptions()
            one.reduceOp = opts.reduceOp
            self.allreduce([t], one)
        return _done(tensors)

    def reduce(self, tensors, opts):
        return self._run("reduce", tensors, opts, targets=tensors)

    def allgather(self, outputs, inputs, opts=None):
        return self._run("allgather", outputs, inputs, targets=outputs)

    def gather(self, outputs, inputs, opts):
        return self._run("gather", outputs, inputs, opts, targets=outputs)

    def scatter(self, outputs, inputs, opts):
        return self._run("scatter", outputs, inputs, opts, targets=outputs)

    def all_gather_single(self, output, input, opts=None):
        return self.allgather([list(output.view(-1).chunk(self.size()))], [input.reshape(-1)])

    def all_gather_single_coalesced(self, outputs, inputs, opts=None):
        for output, input in zip(outputs, inputs):
            self.all_gather_single(output, input)
        return _done(outputs)

    def reduce_scatter_single(self, output, input, opts):
        whole, one = input.clone(), dist.AllreduceOptions()
        one.reduceOp = opts.reduceOp
        self.allreduce([whole], one)
        output.copy_(whole.view(-1).chunk(self.size())[self.rank()].view_as(output))
        return _done([output])

    def reduce_scatter(self, outputs, inputs, opts):
        return self.reduce_scatter_single(outputs[0], torch.stack(inputs[0]), opts)

    def reduce_scatter_single_coalesced(self, outputs, inputs, opts):
        for output, input in zip(outputs, inputs):
            self.reduce_scatter_single(output, input, opts)
        return _done(outputs)

    def all_to_all_single(self, output, input, output_splits=None, input_splits=None, opts=None):
        return self._run(
            "alltoall_base",
            output,
            input,
            list(output_splits or []),
            list(input_splits or []),
            targets=[output],
        )

    def send(self, tensors, dst, tag):
        return self._run("send", tensors, dst, tag, targets=[])

    def recv(self, tensors, src, tag):
        return self._run("recv", tensors, src, tag, targets=tensors)

    def barrier(self, opts=None):
        self._gloo.barrier().wait()
        return _done([])

    _allgather_base, _reduce_scatter_base = all_gather_single, reduce_scatter_single
    alltoall_base = all_to_all_single

    @property
    def _device_types(self):
        return [torch.device("cuda")]

    @property
    def group_name(self):
        return c10d._world.pg_names[self]

    def getBackendName(self) -> str:
        return "nccl"

    def _set_sequence_number_for_group(self) -> None:
        pass


def _flat(values) -> list:
    return [t for v in values for t in (_flat(v) if isinstance(v, (list, tuple)) else [v])]


def install() -> None:
    """Let ``init_process_group("nccl")`` make this one."""
    c10d._NCCL_AVAILABLE = True
    c10d.is_nccl_available = dist.is_nccl_available = lambda: True
    c10d.ProcessGroupNCCL = dist.ProcessGroupNCCL = VirtualNCCL
    torch.cuda.nccl.version = lambda: (2, 21, 5)
