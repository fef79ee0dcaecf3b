"""Keys and values of one attention layer in preallocated memory."""

import torch
from torch import Tensor

from mmcity.structures import to_device

from .quantization import GROUP_SIZE, QuantFormat, parse_cache_dtype


class _Buffer:
    """A tensor that grows along dimension 2 and is used up to a length."""

    def __init__(self) -> None:
        self.data: Tensor | None = None
        self.length = 0

    def append(self, rows: Tensor, capacity: int, growth: float) -> None:
        needed = self.length + rows.shape[2]
        if self.data is None or needed > self.data.shape[2]:
            wanted = max(needed, capacity)
            if self.data is not None and wanted > capacity:
                wanted = max(needed, int(self.data.shape[2] * growth))
            grown = rows.new_empty(*rows.shape[:2], wanted, *rows.shape[3:])
            if self.data is not None:
                grown[:, :, : self.length] = self.data[:, :, : self.length]
            self.data = grown
        self.data[:, :, self.length : needed] = rows
        self.length = needed

    def used(self) -> Tensor:
        return self.data[:, :, : self.length]

    def swap_out(self, page: Tensor, size: int) -> None:
        """Move the last ``size`` rows over page ``page[b]`` of each batch entry."""
        # Not every device can index float8; its bytes it can.
        rows = self.used() if self.data.element_size() > 1 else self.used().view(torch.uint8)
        pages = rows.unflatten(2, (-1, size))  # (B, heads, pages, size, ...)
        entries = torch.arange(len(page), device=page.device)
        pages[entries, :, page] = pages[:, :, -1].clone()
        self.length -= size

    def replace(self, rows: Tensor) -> None:
        self.data[:, :, : rows.shape[2]] = rows
        self.length = rows.shape[2]

    @property
    def nbytes(self) -> int:
        return 0 if self.data is None else self.used().nelement() * self.data.element_size()

    @property
    def allocated(self) -> int:
        return 0 if self.data is None else self.data.nelement() * self.data.element_size()


class KVStore:
    """Growing set of keys and values; appending copies only the new tokens.

    Order carries no meaning in attention without a mask, so a removed page is overwritten
    by the last one.

    Args:
        dtype: ``'fp32'``, ``'bf16'``, ``'fp16'``, ``'fp8'``, ``'int8'``, a torch dtype or
            None for that of the first keys. Defaults to None.
        capacity: Tokens to allocate at the first append. Defaults to 0 (what is needed).
        growth: Factor of a reallocation when the capacity is exceeded. Defaults to 1.5.
    """

    def __init__(
        self, dtype: str | torch.dtype | None = None, capacity: int = 0, growth: float = 1.5
    ) -> None:
        self.format = parse_cache_dtype(dtype)
        self.capacity = capacity
        self.growth = growth
        self.reset()

    def reset(self) -> None:
        """Forget all tokens and give the memory back."""
        self._buffers = {name: _Buffer() for name in ("k", "v", "k_exponent", "v_scale")}
        self._group_sizes: list[int] = []

    def clear(self) -> None:
        """Forget all tokens but keep the memory."""
        for buffer in self._buffers.values():
            buffer.length = 0
        self._group_sizes = []

    @property
    def is_quantized(self) -> bool:
        """Whether tokens are stored in eight bits."""
        return isinstance(self.format, QuantFormat)

    @property
    def length(self) -> int:
        """Tokens held."""
        return self._buffers["k"].length

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens held, scales included."""
        return sum(buffer.nbytes for buffer in self._buffers.values())

    @property
    def allocated_nbytes(self) -> int:
        """Bytes of the memory held, used or not."""
        return sum(buffer.allocated for buffer in self._buffers.values())

    def append(self, k: Tensor, v: Tensor) -> None:
        """Add tokens ``(B, heads, N, head_dim)``; keys after norm and rotation."""
        if self.length and k.shape[:2] != self._buffers["k"].data.shape[:2]:
            raise ValueError(
                f"tokens: expected (batch, heads) = {tuple(self._buffers['k'].data.shape[:2])} "
                f"as in the cache, got {tuple(k.shape[:2])}: start a new cache"
            )
        if self.is_quantized:
            self._append_quantized(k, v)
            return
        dtype = self.format or k.dtype
        self._write("k", k.to(dtype))
        self._write("v", v.to(dtype))

    def _write(self, name: str, rows: Tensor, capacity: int | None = None) -> None:
        capacity = self.capacity if capacity is None else capacity
        self._buffers[name].append(rows, capacity, self.growth)

    def _append_quantized(self, k: Tensor, v: Tensor) -> None:
        for part in k.split(GROUP_SIZE, dim=2):
            payload, exponent = self.format.encode_keys(part)
            self._write("k", payload)
            # Groups at page ends are short, hence one spare group per two full ones.
            self._write("k_exponent", exponent.unsqueeze(2), self.capacity // GROUP_SIZE * 3 // 2)
            self._group_sizes.append(part.shape[2])
        payload, scale = self.format.encode_values(v)
        self._write("v", payload)
        self._write("v_scale", scale)

    def read(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values ``(B, heads, length, head_dim)``; views where no conversion is due."""
        return self.read_keys(dtype), self._read_values(dtype)

    def read_keys(self, dtype: torch.dtype | None = None) -> Tensor:
        """Keys ``(B, heads, length, head_dim)``."""
        k = self._buffers["k"].used()
        if self.is_quantized:
            sizes = to_device(torch.tensor(self._group_sizes), k.device)
            exponent = self._buffers["k_exponent"].used()
            exponent = exponent.repeat_interleave(sizes, dim=2, output_size=self.length)
            return self.format.decode_keys(k, exponent, dtype or torch.float32)
        return k if dtype is None else k.to(dtype)

    def _read_values(self, dtype: torch.dtype | None) -> Tensor:
        v = self._buffers["v"].used()
        if self.is_quantized:
            scale = self._buffers["v_scale"].used()
            return self.format.decode_values(v, scale, dtype or torch.float32)
        return v if dtype is None else v.to(dtype)

    def remove_page(self, page: Tensor, page_tokens: int) -> None:
        """Remove one page of each batch entry; the last page takes its place.

        Args:
            page: Page number per batch entry, ``(B,)``.
            page_tokens: Tokens per page; the store must consist of whole pages.
        """
        if self.length % page_tokens:
            raise ValueError(f"tokens: expected whole pages of {page_tokens}, got {self.length}")
        for name in ("k", "v"):
            self._buffers[name].swap_out(page, page_tokens)
        if self.is_quantized:
            self._buffers["v_scale"].swap_out(page, page_tokens)
            groups = -(-page_tokens // GROUP_SIZE)
            self._buffers["k_exponent"].swap_out(page, groups)
            del self._group_sizes[-groups:]

    def keep(self, index: Tensor) -> None:
        """Keep only some tokens.

        Args:
            index: Token numbers ``(B, heads or 1, n)``, without repetitions.
        """
        k, v = self._buffers["k"], self._buffers["v"]
        index = index.expand(-1, k.data.shape[1], -1)

        def pick(rows: Tensor) -> Tensor:
            return rows.gather(2, index.unsqueeze(-1).expand(-1, -1, -1, rows.shape[-1]))

        if not self.is_quantized:
            k.replace(pick(k.used()))
            v.replace(pick(v.used()))
            return
        keys, values = pick(self.read_keys()), self._buffers["v"]
        kept_scale = pick(self._buffers["v_scale"].used())
        # float8 has no gather kernel on every device; its bytes do.
        kept_values = pick(values.used().view(torch.uint8)).view(self.format.dtype)
        self.clear()
        for part in keys.split(GROUP_SIZE, dim=2):
            payload, exponent = self.format.encode_keys(part)
            self._write("k", payload)
            self._write("k_exponent", exponent.unsqueeze(2))
            self._group_sizes.append(part.shape[2])
        values.replace(kept_values)
        self._buffers["v_scale"].replace(kept_scale)

    def state_dict(self) -> dict:
        """Copies of all tokens; restores with :meth:`load_state_dict`."""
        tensors = {
            name: buffer.used().clone()
            for name, buffer in self._buffers.items()
            if buffer.data is not None
        }
        return {"tensors": tensors, "group_sizes": list(self._group_sizes)}

    def load_state_dict(self, state: dict, device: torch.device | str | None = None) -> None:
        """Replace the content by that of ``state``."""
        self.reset()
        for name, rows in state["tensors"].items():
            self._write(name, rows.to(device), 0 if name == "k_exponent" else None)
        self._group_sizes = list(state["group_sizes"])
