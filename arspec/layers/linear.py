"""Linear maps, embeddings and learned numbers: ops that read one position."""

from __future__ import annotations

from typing import Any, ClassVar

from arspec.graph import ALL, BEFORE, UPTO
from arspec.layers.base import Facts, Number, Op, Text, Weighted
from arspec.layers.shifts import add_up, shift_module
from arspec.layers.site import Site
from arspec.marks import KEEPS, first
from arspec.values import DERIVED, KNOWN, AxisName, Features, Num


def settings(op: Weighted, extra: str = "") -> str:
    """The keyword arguments that every weighted piece shares, as text."""
    return extra + ("" if op.bias else ", bias=False")


class Linear(Weighted):
    """A linear map of the features at each position; masked by channel group where they exist."""

    key: ClassVar[str] = "linear"
    linear: Number

    def facts(self, site: Site) -> Facts:
        x = site.x.info
        mask = site.mask() if site.grouped else "none"
        if not site.grouped and self.mask != "none":
            site.without_effect("mask")
        masked = mask != "none"
        out = site.output(site.number("linear", 1), masked)
        groups = {"A": BEFORE, "B": UPTO, "none": ALL}[mask]
        if masked:
            piece = "SubpixelLinear" if mask == "B" else "StrictSubpixelLinear"
            construct = f"{piece}({x.features.layout}, {out.layout}{settings(self)})"
        else:
            construct = f"nn.Linear({x.features.text}, {out.text}{settings(self)})"
        return Facts(
            grid=x.grid,
            features=out,
            reads=((site.x, site.frame.point(groups)),),
            due=min(x.due, DERIVED),
            construct=construct,
            call=f"{{self}}({site.x.code}{KEEPS if masked else ''})",
            parameters=self.weights(out.width, x.features.width),
            missing=missing_setting(self),
            mask=mask if masked else "",
            adds_up=not masked,
        )


class Embed(Weighted):
    """A learned vector per symbol, or per position of an axis (then `size` bounds its length)."""

    key: ClassVar[str] = "embed"
    takes_symbols: ClassVar[bool] = True
    takes_axes: ClassVar[bool] = True
    embed: Number
    size: Number | None = None

    def facts(self, site: Site) -> Facts:
        site.without_effect("to", "mask", "bias", "weight_norm")
        width = site.number("embed", 1)
        out = site.output(width, grouped=False)
        source: Any = site.inputs[0]
        if isinstance(source, AxisName):
            return self._positions(site, source, out)
        x = source.info
        if x.symbols is None:
            site.fail("AR307", "of")
        call = source.raw
        construct: str | None = f"Embedding({x.symbols.text}, {out.text})"
        parameters = x.symbols.value * out.width
        if self.tied is not None:
            owner, shared, rows = site.resolve_tied(self.tied, "tied")
            construct, parameters = None, 0
            call = f"F.embedding({call}, {owner}.weight)"
            if rows != x.symbols.value:
                site.fail("AR301", "tied", left=rows, right=x.symbols.value, what="tied symbols")
            if shared.features.width != out.width:
                site.fail(
                    "AR301", "tied", left=shared.features.width, right=out.width, what="tied weight"
                )
        else:
            call = f"{{self}}({call})"
        helpers = []
        together = add_up(source.delays)
        each = [source.delays] if together and source.delays else [[d] for d in source.delays]
        for i, moves in enumerate(each):
            helper = f"{site.name.partition('.')[0]}_shift{i + 1 if i else ''}"
            helpers.append((helper, shift_module(x.grid, moves)))
            call = f"self.{helper}({call}{KEEPS})"
        reads = ((source, site.frame.point(ALL)),)
        several = x.features.width != x.symbols.value
        return Facts(
            grid=x.grid,
            features=out,
            reads=reads,
            due=min(x.due, DERIVED),
            construct=construct,
            call=call,
            table=int(x.symbols.value) if construct else 0,
            parameters=int(parameters),
            operations=0,
            missing="an embedding of several channels" if several else missing_setting(self),
            helpers=tuple(helpers),
        )

    def _positions(self, site: Site, axis: AxisName, out: Features) -> Facts:
        if self.size is None:
            site.fail(
                "AR102", "embed", key="size", help="`size` is the greatest length of the axis"
            )
        size = site.number("size", 1)
        site.limit(axis.name, int(size.value))
        place = site.frame.axes.index(axis.name) + 1 if axis.name in site.frame.axes else 0
        missing = None if place else "learned positions of another variable's axis"
        return Facts(
            grid=((axis.name, 1),),
            features=out,
            reads=(),
            due=KNOWN,
            construct=f"PositionEmbedding({size.text}, {out.text})",
            call=f"{{self}}({site.target}.shape[{place}]{first(axis.name)})",
            parameters=int(size.value) * out.width,
            operations=0,
            missing=missing,
            batched=False,
        )


class Weight(Op):
    """Learned numbers: a vector of `weight` features without a position."""

    key: ClassVar[str] = "weight"
    makes_input: ClassVar[bool] = True
    weight: Number
    within: Text | None = None
    init: Number | None = None

    def facts(self, site: Site) -> Facts:
        width = site.number("weight", 1)
        init = site.resolve_number(self.init, "init") if self.init is not None else Num(0.0, "0.0")
        low, high = None, None
        if self.within is not None:
            box = site.resolve_window(self.within, "within").boxes[0][None]
            assert isinstance(box, tuple)
            low, high = (bound.text if bound.text else None for bound in box)
            inside = (low is None or box[0].value < init.value) and (
                high is None or init.value < box[1].value
            )
            if not inside:
                site.fail("AR312", "init", setting="init", value=init.value, need="inside `within`")
        if low is None and high is None:
            construct = f"nn.Parameter(torch.full(({width.text},), {_real(init)}))"
            call = "{self}"
        else:
            construct = f"Bounded({width.text}, {low}, {high}, {_real(init)})"
            call = "{self}()"
        return Facts(
            grid=(),
            features=site.output(width, grouped=False),
            reads=(),
            due=KNOWN,
            construct=construct,
            call=call,
            parameters=int(width.value),
            batched=False,
        )


def _real(number: Num) -> str:
    return f"{number.text}.0" if number.text.isdigit() else number.text


def missing_setting(op: Weighted) -> str | None:
    """The general settings of a weighted op that have no code yet."""
    if op.weight_norm:
        return "`weight_norm`"
    if op.tied is not None and not isinstance(op, Embed):
        return f"a tied `{op.key}`"
    return None
