"""Random small specs that mean something: valid, some causal and some not.

Every node of a spec is as wide as the others, so that any two can be added, and every node is read:
what is left over at the end is summed. a good part of the specs leak, for a test of a verdict needs
both.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

WIDTH = 4


@dataclass
class Sketch:
    """A spec while it is written."""

    draw: random.Random
    axes: tuple[str, ...]
    variable: str
    kind: str
    ordered: bool = False
    safe: bool = True
    conditions: dict[str, str] = field(default_factory=dict)
    blocks: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)

    def line(self, value: str, *reads: str, name: str | None = None) -> str:
        """Write a line and note what it read."""
        name = name or f"n{len(self.lines)}"
        self.lines.append(f"  {name}: {value}")
        self.nodes.append(name)
        self.unread = [node for node in self.unread if node not in reads] + [name]
        return name

    def node(self) -> str:
        """A node to read, more likely one that nobody reads yet."""
        return self.draw.choice(self.unread + self.nodes)

    def given(self) -> str:
        """`given:` with a condition, or nothing."""
        if not self.known or self.draw.random() < 0.6:
            return ""
        return f", given: {self.draw.choice(self.known)}"

    def shift(self, least: int = 0) -> str:
        """`(time - 1)`, or nothing where `least` is 0."""
        by = self.draw.randint(least, 2)
        return f"({self.draw.choice(self.axes)} - {by})" if by else ""

    def text(self) -> str:
        out = self.unread[0] if len(self.unread) == 1 else " + ".join(self.unread)
        order = f"order: [{', '.join(self.axes)}, channel]\n" if self.ordered else ""
        given = "".join(f"  {name}: {value}\n" for name, value in self.conditions.items())
        blocks = f"blocks:\n{''.join(self.blocks)}\n" if self.blocks else ""
        head = "gaussian" if "features" in self.kind else "categorical"
        body = "\n".join(self.lines)
        return (
            f"name: drawn\n\nvariables:\n  {self.variable}: {{{self.kind}}}\n{given}\n"
            f"generate: {self.variable}\n{order}\n{blocks}network:\n{body}\n"
            f"  out: tanh({out})\n\nhead: {head}\n"
        )


def random_spec(seed: int) -> str:
    """The text of a spec; the same for the same seed."""
    draw = random.Random(seed)
    return draw.choice([sequence, sequence, sequence, image, colours])(draw)


# --- sequences -----------------------------------------------------------------------------------


def sequence(draw: random.Random) -> str:
    kind = draw.choice(["classes: 4", "levels: 4", "features: 2"])
    sketch = Sketch(draw, ("time",), "y", f"{kind}, axes: [time]", safe=draw.random() < 0.4)
    for _ in range(draw.choice([0, 0, 1, 2])):
        condition(sketch)
    first_of_sequence(sketch)
    for _ in range(draw.randint(1, 5)):
        draw.choice([convolution, convolution, attention, pointwise, equation, norm, layers])(
            sketch
        )
    use_conditions(sketch)
    return sketch.text()


def first_of_sequence(s: Sketch) -> None:
    """What reads the generated variable: sometimes twice."""
    for _ in range(s.draw.choice([1, 1, 2])):
        forms = [
            f"{{conv: {s.draw.randint(1, 3)}, to: {WIDTH}, of: y{s.given()}}}",
            f"{{linear: {WIDTH}, of: y{s.shift(1)}{s.given()}}}",
            f"{{conv: {{time: {s.draw.choice(['-3..-1', '-2..-1', '-1'])}}}, to: {WIDTH}, of: y}}",
        ]
        if "classes" in s.kind:
            forms.append(f"{{embed: {WIDTH}, of: y{s.shift(1)}}}")
        if not s.safe:
            forms += [
                f"{{linear: {WIDTH}, of: y}}",
                f"{{conv: {{time: -1..1}}, to: {WIDTH}, of: y}}",
            ]
        s.line(s.draw.choice(forms))


def convolution(s: Sketch) -> None:
    source = s.node()
    size = s.draw.randint(1, 3)
    if not s.safe and s.draw.random() < 0.4:
        low = s.draw.randint(-2, 0)
        window = f"{{time: {low}..{s.draw.randint(max(low, 0), 2)}}}"
    else:
        window = s.draw.choice([str(size), str(size), "{time: -2..0}", "{time: -2..-1}"])
    dilation = s.draw.choice(["", "", f", dilation: {s.draw.randint(2, 3)}"])
    s.line(f"{{conv: {window}{dilation}, of: {source}{s.given()}}}", source)


def attention(s: Sketch) -> None:
    source = s.node()
    window = s.draw.choice(["", f", window: {s.draw.randint(1, 3)}"])
    s.line(f"{{attention: 2{window}, of: {source}}}", source)


def norm(s: Sketch) -> None:
    source = s.node()
    s.line(f"{{norm: {s.draw.choice(['layer', 'rms'])}, of: {source}}}", source)


def layers(s: Sketch) -> None:
    """A block, stacked over dilations."""
    source, name = s.node(), f"block{len(s.blocks)}"
    body = s.draw.choice(
        [
            "    f: {conv: 2, dilation: dilation}\n    out: x + tanh(f)\n",
            "    f, g: {conv: 2, dilation: dilation}\n    z: tanh(f) * sigmoid(g)\n"
            f"    dense: {{linear: {WIDTH}}}\n    out: x + dense\n",
            "    f: [{norm: rms}, {conv: {time: -1..0}, dilation: dilation}]\n    out: x + f\n",
            "    f: {conv: 1}\n    g: {conv: 2, dilation: dilation, of: x(time - 1)}\n"
            "    out: f + relu(g)\n",
        ]
    )
    if not s.safe and s.draw.random() < 0.3:
        body = body.replace("{conv: 2,", "{conv: {time: 0..1},")
    if len(s.axes) > 1:
        body = IMAGE_BODIES[s.draw.randrange(len(IMAGE_BODIES))]
    s.blocks.append(f"  {name}(x, dilation=1):\n{body}")
    repeat = s.draw.choice(["2", "{dilation: doubling(1..2)}", "{dilation: [2, 1]}"])
    s.line(f"{{use: {name}, of: {source}, repeat: {repeat}}}", source)


# --- for every number of axes --------------------------------------------------------------------


def pointwise(s: Sketch) -> None:
    source = s.node()
    form = s.draw.choice(
        [
            f"{{linear: {WIDTH}, of: {source}{s.given()}}}",
            f"[{{linear: {WIDTH}, of: {source}}}, gelu, {{dropout: 0.5}}, {{linear: {WIDTH}}}]",
        ]
    )
    s.line(form, source)


def equation(s: Sketch) -> None:
    a, b = s.node(), s.node()
    form = s.draw.choice(
        [
            f"tanh({a}) * sigmoid({b}{s.shift()})",
            f"{a} + 2 * {b}{s.shift()}",
            f"silu({a}) * {b}{s.shift()}",
            f"elu({a}) + {b}",
        ]
    )
    s.line(form, a, b)


# --- conditions ----------------------------------------------------------------------------------


def condition(s: Sketch) -> None:
    """A condition on the target's clock or a slower one, or a global one, and how it is read."""
    name = f"c{len(s.conditions)}"
    if s.draw.random() < 0.25:
        s.conditions[name] = "{classes: 3}"
        s.known.append(name)
        return
    slower = s.draw.choice([1, 1, 2, 3])
    known = s.draw.choice(["all", "present", "past", "+1", "+2"])
    clock = "time" if slower == 1 else f"time / {slower}"
    s.conditions[name] = f"{{features: 2, axes: [{clock}], known: {known}}}"
    inferred = f"{{conv: {s.draw.choice([1, 3])}, to: {WIDTH}, of: {name}}}"
    written = (
        f"{{conv: {{time: {s.draw.choice(['-1..0', '0..1', '-2..-1'])}}}, to: {WIDTH}, of: {name}}}"
    )
    plain = f"{{linear: {WIDTH}, of: {name}{s.shift()}}}"
    reading = f"{name}_read"
    s.lines.append(f"  {reading}: {s.draw.choice([inferred, written, plain])}")
    if slower > 1 and s.draw.random() < 0.5:
        s.lines.append(f"  {reading}_up: {{up: {slower}, of: {reading}}}")
        reading = f"{reading}_up"
    s.known.append(reading)


def use_conditions(s: Sketch) -> None:
    """A condition that nobody reads is an error: read each at least once."""
    source = s.node()
    if s.known:
        s.line(f"{{linear: {WIDTH}, of: {source}, given: [{', '.join(s.known)}]}}", source)


# --- images --------------------------------------------------------------------------------------

IMAGE_BODIES = (
    "    f: {conv: 3, dilation: dilation}\n    out: x + tanh(f)\n",
    "    f: [relu, {conv: {row: 1, col: 3}, dilation: dilation}]\n    out: x + f\n",
    f"    f, g: {{conv: 3, dilation: dilation}}\n    z: tanh(f) * sigmoid(g)\n"
    f"    dense: {{linear: {WIDTH}}}\n    out: x + dense\n",
)


def image(draw: random.Random) -> str:
    kind = draw.choice(["levels: 3", "classes: 3", "features: 2"])
    s = Sketch(draw, ("row", "col"), "y", f"{kind}, axes: [row, col]", safe=draw.random() < 0.4)
    if draw.random() < 0.3:
        s.conditions["label"] = "{classes: 3}"
        s.known.append("label")
    windows = [
        "3",
        "{row: 3, col: 3}",
        "{row: 1, col: 3}",
        "{row: -1, col: -1..1}",
        "{row: 0, col: -2..-1}",
    ]
    if not s.safe:
        windows += ["{row: -1..0, col: -1..1}", "{row: 0, col: 0..1}"]
    for _ in range(draw.choice([1, 1, 2])):
        s.line(f"{{conv: {draw.choice(windows)}, to: {WIDTH}, of: y{s.given()}}}")
    ops: list[Callable[[Sketch], None]] = [
        window_of_image,
        window_of_image,
        pointwise,
        equation,
        norm,
        layers,
    ]
    for _ in range(draw.randint(1, 4)):
        draw.choice(ops)(s)
    use_conditions(s)
    return s.text()


def window_of_image(s: Sketch) -> None:
    source = s.node()
    windows = [
        "3",
        "3",
        "{row: 1, col: 3}",
        "{row: 3, col: 1}",
        "{row: -1, col: -1..1}",
        "{row: -1..0, col: -1..0}",
    ]
    if not s.safe:
        windows += ["{row: -1..0, col: -1..1}", "{row: 0, col: -1..1}"]
    dilation = s.draw.choice(["", "", ", dilation: 2", ", dilation: {row: 1, col: 2}"])
    s.line(f"{{conv: {s.draw.choice(windows)}{dilation}, of: {source}{s.given()}}}", source)


def colours(draw: random.Random) -> str:
    """Channels drawn one after another."""
    axes = draw.choice([("row", "col"), ("time",)])
    channels = draw.choice([2, 3])
    kind = f"levels: 3, axes: [{', '.join(axes)}], channels: {channels}"
    s = Sketch(draw, axes, "y", kind, ordered=True, safe=draw.random() < 0.4)
    s.line(f"{{conv: 3, to: {WIDTH}, of: y}}")
    if draw.random() < 0.3:
        s.line(f"{{conv: {draw.choice([1, 3])}, mask: A, to: {WIDTH}, of: y}}")
    for _ in range(draw.randint(1, 3)):
        source = s.node()
        forms = [
            f"{{conv: 3, of: {source}}}",
            f"{{conv: 3, mask: A, of: {source}}}",
            f"{{linear: {WIDTH}, of: {source}}}",
            f"relu({source})",
            f"[relu, {{linear: {WIDTH}}}, {{conv: 1}}]"
            if source == s.nodes[-1]
            else f"tanh({source})",
        ]
        if not s.safe:
            forms += [f"{{norm: layer, of: {source}}}", f"{{conv: 3, mask: none, of: {source}}}"]
        s.line(draw.choice(forms), source)
    return s.text()
