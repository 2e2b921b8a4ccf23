"""Where an op stands: its inputs and the order it lives in, with what it may ask of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from arspec.diagnostics import Span, did_you_mean, refuse
from arspec.frame import Frame, Taps, is_raster
from arspec.layers.base import Op, Weighted
from arspec.values import DRAWN, KNOWN, AxisName, Extent, Features, Info, Num, Ref, Window

MAX_SETTING = 10_000_000


@dataclass(frozen=True)
class Site:
    """One op at one place of the expanded spec.

    The callables resolve what the user wrote in a setting; they are bound to the body's scope.
    """

    op: Op
    name: str
    span: Span
    inputs: tuple[Ref, ...]
    frame: Frame
    target: str
    names: int
    resolve_number: Callable[[Any, str], Num]
    resolve_window: Callable[[Any, str], Window]
    resolve_node: Callable[[Any, str], Ref | AxisName]
    resolve_tied: Callable[[Any, str], tuple[str, Info, int]]
    setting_span: Callable[[str], Span]
    limit: Callable[[str, int], None]

    @property
    def x(self) -> Ref:
        return self.inputs[0]

    def fail(
        self, code: str, at: str | None = None, /, help: str | None = None, **fields: Any
    ) -> NoReturn:
        """An error at a setting, or at the whole line."""
        span = self.span if at is None else self.setting_span(at)
        refuse(code, span, help=help, **{"name": self.name, **fields})

    # settings

    def without_effect(self, *settings: str) -> None:
        """Refuse settings that this op, as it stands here, would ignore."""
        for setting in settings:
            if setting in self.op.model_fields_set:
                self.fail("AR313", setting, setting=setting, op=self.op.key)

    def number(self, setting: str, low: float | None = None, whole: bool = True) -> Num:
        """The number given in a setting, checked: at least `low`, whole if asked."""
        number = self.resolve_number(getattr(self.op, setting), setting)
        return self.checked(number, setting, low, whole)

    def checked(self, number: Num, setting: str, low: float | None, whole: bool) -> Num:
        if whole and not isinstance(number.value, int):
            self.fail("AR312", setting, setting=setting, value=number.value, need="a whole number")
        if low is not None and number.value < low:
            self.fail("AR312", setting, setting=setting, value=number.value, need=f">= {low}")
        if abs(number.value) > MAX_SETTING:
            need = f"at most {MAX_SETTING:,}"
            self.fail("AR312", setting, setting=setting, value=number.value, need=need)
        return number

    def rates(self, setting: str) -> dict[str, Num]:
        """A number per axis of the input: one for all, or a mapping by axis."""
        raw = getattr(self.op, setting)
        axes = self.axes
        if not isinstance(raw, dict):
            number = self.checked(self.resolve_number(raw, setting), setting, 1, True)
            return dict.fromkeys(axes, number)
        for axis in raw:
            self._known_axis(axis, setting)
        one = Num(1, "1")
        return {
            axis: self.checked(self.resolve_number(raw[axis], setting), setting, 1, True)
            if axis in raw
            else one
            for axis in axes
        }

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(axis for axis, _ in self.x.info.grid)

    def _known_axis(self, axis: str, setting: str) -> None:
        if axis not in self.axes:
            self.fail(
                "AR308",
                setting,
                axis=axis,
                axes=", ".join(self.axes) or "no axis",
                help=did_you_mean(axis, self.axes),
            )

    @property
    def raster(self) -> bool:
        """Whether the input has all axes of the drawn variable, in the order of drawing."""
        return self.axes == self.frame.axes and is_raster(self.frame.order)

    # features

    @property
    def grouped(self) -> bool:
        return self.x.info.features.runs is not None

    def width(self, features: Features | None = None) -> Num:
        """`to`, or the width of the input; of each name where a comma key splits it."""
        if isinstance(self.op, Weighted) and self.op.to is not None:
            return self.number("to", 1)
        features = features or self.x.info.features
        return Num(features.width, features.text)

    def output(self, width: Num, grouped: bool) -> Features:
        """The features of the node: `width` for each name, in channel groups if `grouped`."""
        if grouped:
            return Features.grouped(width, self.frame.channels).times(self.names)
        return Features.plain(width).times(self.names)

    # masks

    def mask(self) -> str:
        """The mask in force, written or inferred: "A", "B" or "none" (rule 7)."""
        written = getattr(self.op, "mask", None)
        if written is not None:
            return str(written)
        due = self.x.info.due
        return "none" if due == KNOWN else "A" if due == DRAWN else "B"

    # windows

    def boxes(
        self, window: Window, setting: str, mask: str, dilation: dict[str, Num]
    ) -> list[dict[str, tuple[int, int, int]]]:
        """The taps of a window by axis: first, last, step. Cut by a mask only in one dimension.

        A size k is centred, but under a mask in one dimension it is the k latest positions.
        """
        axes = self.axes
        boxes = []
        for box in window.boxes:
            for axis in box:
                if axis is not None:
                    self._known_axis(axis, setting)
            if None in box and isinstance(box[None], tuple) and len(axes) > 1:
                self.fail("AR308", setting, axis="a span", axes=", ".join(axes))
            taps = {}
            for axis in axes:
                extent: Extent = box.get(axis, box.get(None, Num(1, "1")))
                step = int(dilation[axis].value)
                first, last = self._extent(extent, setting, mask, len(axes) == 1)
                taps[axis] = (first * step, last * step, step)
            if mask == "A" and len(axes) == 1 and not window.literal and not self.grouped:
                axis = axes[0]
                first, last, step = taps[axis]
                taps[axis] = (first - 1, last - 1, step)
            boxes.append(taps)
        return boxes

    def _extent(self, extent: Extent, setting: str, mask: str, alone: bool) -> tuple[int, int]:
        if isinstance(extent, tuple):
            return int(extent[0].value), int(extent[1].value)
        size = int(self.checked(extent, setting, 1, True).value)
        if alone and mask != "none":
            return -(size - 1), 0
        if size % 2 == 0:
            self.fail("AR303", setting, size=size, low=-(size // 2), high=size // 2 - 1)
        return -(size // 2), size // 2

    def known_axes(self, taps: Sequence[Taps]) -> list[Taps]:
        """The same taps on the axes of the drawn variable alone: others cannot leak."""
        own = set(self.frame.axes)
        return [{axis: span for axis, span in box.items() if axis in own} for box in taps]
