"""Windows on a grid: convolution, transposed convolution, pooling, repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod
from typing import ClassVar, Literal

from arspec.frame import MAX_TAPS, Taps, is_raster
from arspec.graph import ALL, ALWAYS, EVERYWHERE, ONE, PRESENT, SAME, Box, Stencil
from arspec.layers.base import Facts, Number, Op, Rates, Weighted, WindowSpec
from arspec.layers.linear import missing_setting, settings
from arspec.layers.site import Site
from arspec.marks import KEEPS, first
from arspec.values import (
    DERIVED,
    KNOWN,
    Features,
    Grid,
    Num,
    Stride,
    Window,
    product_text,
    tuple_text,
)

_ONE = Num(1, "1")


class Conv(Weighted):
    """A convolution over a window, masked as rule 7 says unless the window is written out."""

    key: ClassVar[str] = "conv"
    conv: WindowSpec
    dilation: Rates = 1
    stride: Rates = 1
    groups: Number = 1

    def facts(self, site: Site) -> Facts:
        x = site.x.info
        if not x.grid:
            site.fail("AR308", "conv", axis="a window", axes="no axis")
        window = site.resolve_window(self.conv, "conv")
        literal = window.literal
        mask = "none" if literal and self.mask is None else site.mask()
        dilation, stride = site.rates("dilation"), site.rates("stride")
        boxes = site.boxes(window, "conv", mask, dilation)
        masked = mask != "none"
        grouped = masked and site.grouped
        out = site.output(site.width(), grouped)
        groups = site.number("groups", 1)
        if x.features.width % groups.value or out.width % groups.value:
            site.fail("AR310", "groups", width=x.features.width, parts=groups.value)
        down = {axis: int(rate.value) for axis, rate in stride.items()}
        own = site.known_axes(boxes)
        if masked:
            reach = site.frame.masked(own, mask == "A", down)
            if not reach.boxes:
                site.fail("AR304", "mask" if self.mask else "conv", mask=mask)
        else:
            reach = site.frame.stencil(own, ALL, down)
        inferred = masked and self.mask is None and len(site.axes) > 1
        cut = site.frame.first_cut(own[0], mask == "A") if inferred else None
        inputs, outputs = (
            (x.features.layout, out.layout) if grouped else (x.features.text, out.text)
        )
        code = _conv_code(site, window, boxes, mask, dilation, reach)
        return Facts(
            grid=_scaled(x.grid, stride, slower=True),
            features=out,
            reads=((site.x, reach),),
            due=min(x.due, DERIVED),
            construct=f"{code.piece}({inputs}, {outputs}, {code.arguments}{settings(self)})",
            call=f"{{self}}({site.x.code}{KEEPS})",
            parameters=self.weights(out.width, code.taps * x.features.width // int(groups.value)),
            missing=missing_setting(self) or code.missing,
            mask=mask if masked else "",
            cut=cut,
        )


@dataclass(frozen=True)
class _Code:
    """Which piece implements a window, its arguments, and how many taps its weight holds."""

    piece: str
    arguments: str
    taps: int
    missing: str | None = None


def _conv_code(
    site: Site,
    window: Window,
    boxes: list[dict[str, tuple[int, int, int]]],
    mask: str,
    dilation: dict[str, Num],
    reach: Stencil,
) -> _Code:
    """A piece for the common windows, which are dense; for all others the one that lists taps."""
    axes = site.axes
    if len(axes) > 3:
        return _Code("", "", _count(boxes[:1]), "a convolution over more than three axes")
    plain = len(boxes) == 1 and all(
        rate.value == 1 for rate in (*site.rates("stride").values(), site.number("groups", 1))
    )
    spread = _dilation_text([dilation[axis] for axis in axes])
    if plain and mask == "none" and not (len(axes) == 1 and site.grouped):
        spans = [_span_text(window, axis, boxes[0], dilation) for axis in axes]
        return _Code(f"WindowConv{len(axes)}d", f"{_spans_text(spans)}{spread}", _count(boxes))
    if not plain or window.literal or (len(axes) > 1 and not site.raster):
        return _box_code(site, boxes, mask, dilation, reach)
    sizes = [_size_text(window, axis) for axis in axes]
    if len(axes) > 1:
        piece = f"{'Subpixel' if site.grouped else 'Masked'}Conv{len(axes)}d{mask}"
        cells = _masked_cells(boxes[0], axes, mask == "B" or site.grouped)
        return _Code(piece, f"({', '.join(sizes)}){spread}", cells)
    piece = "CausalConv1d" if mask == "B" else "StrictlyCausalConv1d"
    piece = f"SubpixelConv1d{mask}" if site.grouped else piece
    return _Code(piece, f"{sizes[0]}{spread}", _count(boxes))


def _masked_cells(box: Taps, axes: Sequence[str], present: bool) -> int:
    """How many taps the weight of a centred window under a raster mask has a place for.

    Those beyond the present are left out on the first axis on which the window is wider than 1.
    """
    sizes = [(last - first) // step + 1 for first, last, step in (box[axis] for axis in axes)]
    while len(sizes) > 1 and sizes[0] == 1:
        del sizes[0]
    first = sizes[0] // 2 + (len(sizes) > 1 or present)
    return first * prod(sizes[1:])


def _box_code(
    site: Site,
    boxes: Sequence[Taps],
    mask: str,
    dilation: dict[str, Num],
    reach: Stencil,
) -> _Code:
    """The piece that is told every box of taps: those that the reach names."""
    axes = site.axes
    total = sum(_count([box]) for box in boxes)
    if mask != "none":
        if site.grouped:
            what = "a window of ordered channels with a stride, groups or a union of boxes"
            return _Code("", "", total, what)
        if set(axes) - set(site.frame.axes):
            return _Code("", "", total, "a mask over an axis of another variable")
        boxes = [_by_axis(box, site) for box in reach.boxes]
    if len(boxes) > 1 and total > MAX_TAPS:
        return _Code("", "", total, f"a window of more than {MAX_TAPS:,} taps in several boxes")
    boxes = _merged(boxes, axes[-1], int(dilation[axes[-1]].value))
    listed = [tuple_text([_taps_text(box[axis], dilation[axis]) for axis in axes]) for box in boxes]
    arguments = f"[{', '.join(listed)}]"
    stride, groups = site.rates("stride"), site.number("groups", 1)
    arguments += _rates_text("stride", [stride[axis] for axis in axes])
    arguments += f", groups={groups.text}" if groups.value != 1 else ""
    slower = site.x.info.due != KNOWN and max(int(rate.value) for rate in stride.values()) > 1
    piece = _on_grid("StridedConv", site) if slower else "BoxConv"
    return _Code(piece, arguments, _count(boxes))


def _by_axis(box: Box, site: Site) -> Taps:
    """The taps of a box of the reach on the axes that the input has."""
    spans = zip(box.lo, box.hi, box.step, strict=True)
    taps = dict(zip(site.frame.axes, spans, strict=True))
    return {axis: taps[axis] for axis in site.axes}


def _count(boxes: Sequence[Taps]) -> int:
    """How many taps there are in a union of boxes, each counted once."""
    ranges = [[range(a, b + 1, step) for a, b, step in box.values()] for box in boxes]
    if len(ranges) == 1:
        return prod(map(len, ranges[0]))
    return len({tap for box in ranges for tap in product(*box)})


def _merged(boxes: Sequence[Taps], axis: str, rate: int) -> list[Taps]:
    """The same taps in fewer boxes: those that continue one another along an axis are one."""
    merged: list[Taps] = []
    for box in boxes:
        before = merged[-1] if merged else {}
        first, last, _ = box[axis]
        alike = all(before.get(other) == taps for other, taps in box.items() if other != axis)
        if merged and alike and first == before[axis][1] + rate:
            merged[-1] = {**before, axis: (before[axis][0], last, rate)}
        else:
            merged.append(box)
    return merged


def _taps_text(taps: tuple[int, int, int], rate: Num) -> str:
    """Offsets along an axis, as multiples of the dilation where that has a name."""
    first, last, _ = taps
    step = [rate.text] if rate.text != "1" and first < last else []
    return tuple_text([_offset_text(first, rate), _offset_text(last, rate), *step])


def _offset_text(offset: int, rate: Num) -> str:
    if rate.text.isdigit():
        return str(offset)
    times, rest = divmod(offset, int(rate.value))
    if rest:  # strictly before the present: one position earlier
        return f"{_offset_text((times + 1) * int(rate.value), rate)} - {int(rate.value) - rest}"
    return rate.text if times == 1 else product_text(times, rate.text) if times else "0"


def _size_text(window: Window, axis: str) -> str:
    box = window.boxes[0]
    extent = box.get(axis, box.get(None, _ONE))
    assert isinstance(extent, Num)
    return extent.text


def _spans_text(spans: Sequence[tuple[str, str]]) -> str:
    """One span as two arguments, several as a pair each."""
    if len(spans) == 1:
        return ", ".join(spans[0])
    return ", ".join(f"({low}, {high})" for low, high in spans)


def _span_text(window: Window, axis: str, taps: Taps, dilation: dict[str, Num]) -> tuple[str, str]:
    """First and last tap, before dilation, as text: the user's own where a span is written."""
    box = window.boxes[0]
    extent = box.get(axis, box.get(None, _ONE))
    if isinstance(extent, tuple):
        return extent[0].text, extent[1].text
    if not extent.text.isdigit():
        return f"-({extent.text} // 2)", f"({extent.text}) // 2"
    step = int(dilation[axis].value)
    return str(taps[axis][0] // step), str(taps[axis][1] // step)


def _dilation_text(rates: list[Num]) -> str:
    return _rates_text("dilation", rates)


def _rates_text(name: str, rates: list[Num]) -> str:
    """A keyword argument for a number per axis; nothing where all are 1."""
    if all(rate.value == 1 and rate.text == "1" for rate in rates):
        return ""
    if len({rate.text for rate in rates}) == 1:
        return f", {name}={rates[0].text}"
    return f", {name}=({', '.join(rate.text for rate in rates)})"


def _scaled(grid: Grid, rates: Mapping[str, Num], slower: bool) -> Grid:
    def scale(stride: Stride, rate: int | float) -> Stride:
        if slower:
            return stride * int(rate)
        result = Fraction(stride) / int(rate)
        return int(result) if result.denominator == 1 else result

    return tuple((axis, scale(stride, rates.get(axis, _ONE).value)) for axis, stride in grid)


class Deconv(Weighted):
    """A transposed convolution: output i reads (i - d) / stride for d in the window, where whole.

    A size k is centred on a known input (kernel 4, stride 2: d in -1..2) and reads d in 0..k-1,
    which is never ahead, on one that depends on the drawn variable.
    """

    key: ClassVar[str] = "deconv"
    deconv: WindowSpec
    stride: Rates = 1

    def facts(self, site: Site) -> Facts:
        x = site.x.info
        stride = site.rates("stride")
        window = site.resolve_window(self.deconv, "deconv")
        mask = "none" if window.literal and self.mask is None else site.mask()
        boxes: list[Taps] = []
        cells = 1
        for box in window.boxes:
            taps = {}
            for axis in site.axes:
                extent = box.get(axis, box.get(None, _ONE))
                if isinstance(extent, tuple):
                    first, last = int(extent[0].value), int(extent[1].value)
                else:
                    size = int(site.checked(extent, "deconv", 1, True).value)
                    first = 1 if mask == "A" else 0 if mask == "B" else -((size - 1) // 2)
                    last = first + size - 1
                taps[axis] = (first, last, 1)
                cells *= last - first + 1
            boxes.append(taps)
        out = site.output(site.width(), grouped=False)
        up = {axis: int(rate.value) for axis, rate in stride.items()}
        grid = _scaled(x.grid, stride, slower=False)
        reach = site.frame.stencil(site.known_axes(boxes), ALL, up=up, transposed=True)
        spans = [tuple_text([str(end) for end in boxes[0][axis][:2]]) for axis in site.axes]
        rates = _rates_text("stride", [stride[axis] for axis in site.axes])
        arguments = f"{x.features.text}, {out.text}, [{', '.join(spans)}]{rates}{settings(self)}"
        lengths = [
            _length_text(site, axis, stretch, f"{site.x.code}.shape[{place}]", up[axis])
            for place, (axis, stretch) in enumerate(grid, start=1)
        ]
        missing = "a union of windows of `deconv`" if len(boxes) > 1 else None
        if not 1 <= len(grid) <= 3:
            missing = f"`deconv` over {len(grid)} axes"
        piece, keeps = "TransposedConv", ""
        if x.due != KNOWN:
            piece, keeps = _on_grid("SpreadingConv", site), KEEPS
        return Facts(
            grid=grid,
            features=out,
            reads=((site.x, reach),),
            due=min(x.due, DERIVED),
            construct=f"{piece}({arguments})",
            call=f"{{self}}({', '.join([site.x.code, *lengths])}{keeps})",
            parameters=self.weights(out.width, x.features.width * cells),
            missing=missing_setting(self) or missing,
            mask=mask if mask != "none" else "",
        )


class Up(Op):
    """Repetition: output i reads floor(i / rate), a slower clock brought to a faster one."""

    key: ClassVar[str] = "up"
    up: Rates

    def facts(self, site: Site) -> Facts:
        x = site.x.info
        rates = site.rates("up")
        grid = _scaled(x.grid, rates, slower=False)
        up = {axis: int(rate.value) for axis, rate in rates.items()}
        reach = site.frame.stencil([{}], SAME, up=up)
        call = site.x.code
        for place, (axis, stride) in enumerate(grid, start=1):
            if up[axis] != 1:
                length = _length_text(site, axis, stride, f"{site.x.code}.shape[{place}]", up[axis])
                call = f"repeat({call}, {rates[axis].text}, {length}, {place}{first(axis)})"
        return Facts(grid, x.features, ((site.x, reach),), min(x.due, DERIVED), call=call)


def _on_grid(piece: str, site: Site) -> str:
    """The piece that keeps slabs of what is drawn where it comes in parts: rows, or channels."""
    return f"Grid{piece}" if len(site.axes) > 1 or site.grouped else piece


def _length_text(site: Site, axis: str, stride: Stride, own: str, rate: int) -> str:
    """The length of an axis at a stride: that of the drawn variable, rounded up."""
    if axis not in site.frame.axes or Fraction(stride).denominator != 1:
        return f"{own} * {rate}"
    full = f"{site.target}.shape[{site.frame.axes.index(axis) + 1}]"
    return full if stride == 1 else f"-(-{full} // {stride})"


class Pool(Op):
    """Pooling over `pool` neighbours; `pool: all` reads every position, `prefix` those so far."""

    key: ClassVar[str] = "pool"
    pool: Rates
    kind: Literal["mean", "max"] = "mean"

    def facts(self, site: Site) -> Facts:
        if self.pool in ("all", "prefix"):
            return self._whole(site)
        x = site.x.info
        rates = site.rates("pool")
        down = {axis: int(rate.value) for axis, rate in rates.items()}
        taps = {axis: (0, rate - 1, 1) for axis, rate in down.items()}
        reach = site.frame.stencil(site.known_axes([taps]), SAME, down)
        texts = [rates[axis].text for axis in site.axes]
        drawn, piece = x.due != KNOWN, _on_grid(f"{self.kind.title()}Pool", site)
        call = f"{self.kind}_pool({', '.join([site.x.code, *texts])})"
        return Facts(
            grid=_scaled(x.grid, rates, slower=True),
            features=x.features,
            reads=((site.x, reach),),
            due=min(x.due, DERIVED),
            construct=f"{piece}({', '.join(texts)})" if drawn else None,
            call=f"{{self}}({site.x.code}{KEEPS})" if drawn else call,
            depends=self._depends,
        )

    @property
    def _depends(self) -> str:
        return ONE if self.kind == "max" else ALWAYS

    def _whole(self, site: Site) -> Facts:
        """Every position, or at each position those so far."""
        x, frame, axes = site.x.info, site.frame, site.axes
        if not axes:
            site.fail("AR308", "pool", axis="a pool", axes="no axis")
        so_far = self.pool == "prefix"
        missing = None
        if so_far and not (
            is_raster(frame.order) and axes == tuple(a for a in frame.axes if a in axes)
        ):
            missing = "`pool: prefix` in an order by sums of axes"
        dims = tuple_text([str(k) for k in range(1, len(axes) + 1)])
        reduce = {"mean": "torch.mean", "max": "torch.amax"}[self.kind]
        code = site.x.code
        drawn = so_far and x.due != KNOWN
        call = f"{self.kind}_so_far({code})" if so_far else f"{reduce}({code}, {dims})"
        return Facts(
            grid=x.grid if so_far else (),
            features=Features.plain(Num(x.features.width, x.features.text)),
            reads=((site.x, frame.prefix(PRESENT if so_far else EVERYWHERE)),),
            due=min(x.due, DERIVED),
            construct=f"{self.kind.title()}SoFar()" if drawn else None,
            call=f"{{self}}({code}{KEEPS})" if drawn else call,
            depends=self._depends,
            missing=missing,
        )
