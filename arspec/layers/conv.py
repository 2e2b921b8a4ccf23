"""Windows on a grid: convolution, transposed convolution, pooling, repetition."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal

from arspec.frame import Taps
from arspec.graph import ALL, EVERYWHERE, PRESENT, SAME, Reach
from arspec.layers.base import Facts, Number, Op, Rates, Weighted, WindowSpec
from arspec.layers.linear import missing_setting, settings
from arspec.layers.site import Site
from arspec.marks import KEEPS, first
from arspec.values import DERIVED, Features, Grid, Num, Stride, Window

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
            reach: Reach = site.frame.masked(own, mask == "A", down)
            if not reach.boxes:  # type: ignore[union-attr]
                site.fail("AR304", "mask" if self.mask else "conv", mask=mask)
        else:
            reach = site.frame.stencil(own, ALL, down)
        inferred = masked and self.mask is None and len(site.axes) > 1
        cut = site.frame.first_cut(own[0], mask == "A") if inferred else None
        code = _conv_code(site, window, boxes, mask, dilation)
        taps = code.taps * x.features.width // int(groups.value)
        missing = code.missing
        if any(rate.value != 1 for rate in stride.values()):
            missing = "a strided convolution"
        elif groups.value != 1:
            missing = "a grouped convolution"
        inputs, outputs = (
            (x.features.layout, out.layout) if grouped else (x.features.text, out.text)
        )
        return Facts(
            grid=_scaled(x.grid, stride, slower=True),
            features=out,
            reads=((site.x, reach),),
            due=min(x.due, DERIVED),
            construct=f"{code.piece}({inputs}, {outputs}, {code.arguments}{settings(self)})",
            call=f"{{self}}({site.x.code}{KEEPS})",
            parameters=self.weights(out.width, taps),
            missing=missing_setting(self) or missing,
            mask=mask if masked else "",
            cut=cut,
        )


class _Code:
    """Which piece implements a window, its arguments, and how many taps its weight holds."""

    def __init__(self, piece: str, arguments: str, taps: int, missing: str | None = None):
        self.piece, self.arguments, self.taps, self.missing = piece, arguments, taps, missing


def _conv_code(
    site: Site,
    window: Window,
    boxes: list[dict[str, tuple[int, int, int]]],
    mask: str,
    dilation: dict[str, Num],
) -> _Code:
    axes, box = site.axes, boxes[0]
    counts = {axis: (box[axis][1] - box[axis][0]) // box[axis][2] + 1 for axis in axes}
    total = 1
    for count in counts.values():
        total *= count
    if len(boxes) > 1:
        return _Code("", "", total, "a union of windows")
    if len(axes) > 2:
        return _Code("", "", total, "a convolution over three axes")
    spread = _dilation_text([dilation[axis] for axis in axes])
    if mask == "none":
        spans = [_span_text(window, axis, box, dilation) for axis in axes]
        if len(axes) == 1:
            return _Code("WindowConv1d", f"{spans[0][0]}, {spans[0][1]}{spread}", total)
        rows, cols = (f"({low}, {high})" for low, high in spans)
        return _Code("WindowConv2d", f"{rows}, {cols}{spread}", total)
    if window.literal:
        return _Code("", "", total, "a mask on a window that is written out")
    if len(axes) > 1 and not site.raster:
        return _Code("", "", total, "a mask in an order that is not the raster")
    if len(axes) == 1:
        size = _size_text(window, axes[0])
        if site.grouped:
            return _Code(f"SubpixelConv1d{mask}", f"{size}{spread}", total)
        piece = "CausalConv1d" if mask == "B" else "StrictlyCausalConv1d"
        return _Code(piece, f"{size}{spread}", total)
    height, width = counts[axes[0]], counts[axes[1]]
    piece = f"{'Subpixel' if site.grouped else 'Masked'}Conv2d{mask}"
    cells = (height // 2 + 1) * width
    if height == 1:
        cells = width // 2 + (mask == "B" or site.grouped)
    size = f"({_size_text(window, axes[0])}, {_size_text(window, axes[1])})"
    return _Code(piece, f"{size}{spread}", cells)


def _size_text(window: Window, axis: str) -> str:
    box = window.boxes[0]
    extent = box.get(axis, box.get(None, _ONE))
    assert isinstance(extent, Num)
    return extent.text


def _span_text(
    window: Window, axis: str, taps: Mapping[str, tuple[int, int, int]], dilation: dict[str, Num]
) -> tuple[str, str]:
    """First and last tap, before dilation, as text: the user's own where a span is written."""
    box = window.boxes[0]
    extent = box.get(axis, box.get(None, _ONE))
    if isinstance(extent, tuple):
        return extent[0].text, extent[1].text
    step = int(dilation[axis].value)
    return str(taps[axis][0] // step), str(taps[axis][1] // step)


def _dilation_text(rates: list[Num]) -> str:
    if all(rate.value == 1 and rate.text == "1" for rate in rates):
        return ""
    if len({rate.text for rate in rates}) == 1:
        return f", dilation={rates[0].text}"
    return f", dilation=({', '.join(rate.text for rate in rates)})"


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
        reach = site.frame.stencil(site.known_axes(boxes), ALL, up=up, transposed=True)
        return Facts(
            grid=_scaled(x.grid, stride, slower=False),
            features=out,
            reads=((site.x, reach),),
            due=min(x.due, DERIVED),
            parameters=self.weights(out.width, x.features.width * cells),
            missing="`deconv`",
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
        x = site.x.info
        due = min(x.due, DERIVED)
        whole: dict[Any, tuple[str, Grid]] = {
            "all": (EVERYWHERE, ()),
            "prefix": (PRESENT, x.grid),
        }
        if isinstance(self.pool, str) and self.pool in whole:
            until, grid = whole[self.pool]
            reach: Reach = site.frame.prefix(until)
            plain = Features.plain(Num(x.features.width, x.features.text))
            return Facts(grid, plain, ((site.x, reach),), due, missing=f"`pool: {self.pool}`")
        rates = site.rates("pool")
        down = {axis: int(rate.value) for axis, rate in rates.items()}
        taps = {axis: (0, rate - 1, 1) for axis, rate in down.items()}
        reach = site.frame.stencil(site.known_axes([taps]), SAME, down)
        grid = _scaled(x.grid, rates, slower=True)
        return Facts(grid, x.features, ((site.x, reach),), due, missing="`pool`")
