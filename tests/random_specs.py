"""Random small specs that mean something: valid, some causal and some not.

Every node of a spec is as wide as the others, so that any two can be added, and every node is read:
what is left over at the end is summed. A good part of the specs leak, for a test of a verdict needs
both; a test of a sampler asks for `safe` ones, which hardly ever do.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

WIDTH = 4
AXES = {1: ("time",), 2: ("row", "col"), 3: ("frame", "row", "col")}


@dataclass
class Sketch:
    """A spec while it is written.

    `nodes` hold what any other line may read, `above` those of them that see whole slabs of the
    first axis before theirs and nothing else.
    """

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
    above: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    head: str = ""

    def line(self, value: str) -> str:
        """Write a line, for others to read."""
        name = self.hidden(value)
        self.nodes.append(name)
        self.unread.append(name)
        return name

    def hidden(self, value: str, names: str = "") -> str:
        """Write a line that only the next one reads."""
        name = names or f"n{len(self.lines)}"
        self.lines.append(f"  {name}: {value}")
        words = re.findall(r"\w+", value)
        self.unread = [node for node in self.unread if node not in words]
        return name

    def node(self) -> str:
        """A node to read, more likely one that nobody reads yet."""
        return self.draw.choice(self.unread + self.nodes)

    def given(self) -> str:
        """`given:` with a condition or a node of the slabs above, or nothing."""
        if not self.known + self.above or self.draw.random() < 0.6:
            return ""
        name = self.draw.choice(self.known + self.above)
        late = f"({self.axes[0]} - 1)" if name in self.above and self.draw.random() < 0.4 else ""
        return f", given: {name}{late}"

    def shift(self, least: int = 0) -> str:
        """`(time - 1)` or `(row - 1)(col + 1)`: earlier if safe; nothing where `least` is 0."""
        by = self.draw.randint(least, 2)
        if not by:
            return ""
        first = self.draw.randrange(len(self.axes))
        back = self.safe or self.draw.random() < 0.85
        text = f"({self.axes[first]} {'-' if back else '+'} {by})"
        for axis in self.axes[first + 1 :]:
            if self.draw.random() < 0.3:
                text += f"({axis} {self.draw.choice('+-')} 1)"
        return text

    def axis(self) -> str:
        return self.draw.choice(self.axes)

    def text(self) -> str:
        out = self.unread[0] if len(self.unread) == 1 else " + ".join(self.unread)
        order = f"order: [{', '.join(self.axes)}, channel]\n" if self.ordered else ""
        given = "".join(f"  {name}: {value}\n" for name, value in self.conditions.items())
        blocks = f"blocks:\n{''.join(self.blocks)}\n" if self.blocks else ""
        head = self.head or ("gaussian" if "features" in self.kind else "categorical")
        body = "\n".join(self.lines)
        return (
            f"name: drawn\n\nvariables:\n  {self.variable}: {{{self.kind}}}\n{given}\n"
            f"generate: {self.variable}\n{order}\n{blocks}network:\n{body}\n"
            f"  out: tanh({out})\n\nhead: {head}\n"
        )


Grow = Callable[[Sketch], None]


def random_spec(seed: int, safe: bool | None = None) -> str:
    """The text of a spec; the same for the same seed. `safe` ones hardly ever leak."""
    draw = random.Random(seed)
    kind = draw.choice([sequence, sequence, sequence, image, image, colours, volume])
    return kind(draw, draw.random() < 0.2 if safe is None else safe)


def sketch(draw: random.Random, axes: tuple[str, ...], safe: bool) -> Sketch:
    """A variable and its head."""
    kind, head = draw.choice(
        [
            ("classes: 4", ""),
            ("classes: 3", ""),
            ("levels: 4", ""),
            ("levels: 4", "{logistic: 2}"),
            ("levels: 2", "bernoulli"),
            ("levels: 3, channels: 2", ""),
            ("features: 2", ""),
            ("features: 2", "{gaussian: 2}"),
            ("features: 1", ""),
        ]
    )
    return Sketch(draw, axes, "y", f"{kind}, axes: [{', '.join(axes)}]", safe=safe, head=head)


# --- sequences -----------------------------------------------------------------------------------


def sequence(draw: random.Random, safe: bool) -> str:
    s = sketch(draw, AXES[1], safe)
    for _ in range(draw.choice([0, 0, 1, 2])):
        condition(s)
    first_of_sequence(s)
    ops: list[Grow] = [
        convolution,
        convolution,
        convolution,
        ahead,
        early,
        layers,
        recursion,
        *ANYWHERE,
    ]
    for _ in range(draw.randint(1, 5)):
        draw.choice(ops)(s)
    use_conditions(s)
    return s.text()


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
        window = s.draw.choice(
            [str(size), str(size), "{time: -2..0}", "{time: -2..-1}", "[-3..-2, 0]", "[-4, -1..0]"]
        )
    dilation = s.draw.choice(["", "", f", dilation: {s.draw.randint(2, 3)}"])
    more = s.draw.choice(["", "", "", ", groups: 2", f", groups: {WIDTH}", ", mask: A"])
    more = ", mask: B" if "A" in more and "{time: 0" in window else more
    s.line(f"{{conv: {window}{dilation}{more}, of: {source}{s.given()}}}")


def ahead(s: Sketch) -> None:
    """A window that looks ahead, and a shift that undoes it."""
    source = s.node()
    if len(s.axes) == 1:
        by = s.draw.randint(1, 2)
        low = s.draw.randint(-1, by)
        n = s.hidden(f"{{conv: {{time: {low}..{by}}}, of: {source}{s.given()}}}")
        s.line(f"{n}(time - {by + s.draw.randint(0, 1)})")
    elif s.draw.random() < 0.5:  # along the row: as far back
        n = s.hidden(f"{{conv: {{row: 0, col: 0..1}}, of: {source}{s.given()}}}")
        s.line(f"{n}(col - {s.draw.randint(1, 2)})")
    else:  # rows below, with all of their pixels: one row more
        n = s.hidden(f"{{conv: {{row: 0..1, col: -1..1}}, of: {source}{s.given()}}}")
        s.line(f"{n}(row - 2)")


def beside(s: Sketch) -> None:
    """On a grid: the newest next to a value of a row, read from the row below and from its own."""
    if len(s.axes) == 1 or s.draw.random() < 0.75:
        return
    axes = s.axes[: s.draw.randint(1, len(s.axes) - 1)]
    known = s.draw.choice(["all", "present", "past", "+1"])
    s.conditions["c9"] = f"{{features: 1, axes: [{', '.join(axes)}], known: {known}}}"
    n = s.hidden(f"{{linear: {WIDTH}, of: y, given: c9}}")
    s.line(f"{n}({s.axes[0]} - 1) + {n}({s.axes[-1]} - 1)")


def early(s: Sketch) -> None:
    """What is known far ahead, and a window that makes use of it."""
    if len(s.axes) == 1:
        n = s.hidden(f"{{conv: {{time: -4..-3}}, to: {WIDTH}, of: y{s.given()}}}")
        s.line(f"{{conv: {{time: {s.draw.choice(['-1..2', '0..1', '1..2', '1'])}}}, of: {n}}}")
        return
    n = s.hidden(f"{{conv: {{row: -2, col: -1..1}}, to: {WIDTH}, of: y{s.given()}}}")
    form = s.draw.choice(
        [
            f"{{conv: {{row: 0..1, col: -1..1}}, of: {n}}}",
            f"{n}(row + 1)",
            f"{n}(col + 1)",
            f"{{linear: {WIDTH}, of: {n}(row + 1)(col - 1)}}",
        ]
    )
    s.above.append(s.line(form))


def layers(s: Sketch) -> None:
    """A block, stacked over dilations."""
    source, name = s.node(), f"block{len(s.blocks)}"
    body = s.draw.choice(BODIES[len(s.axes)]).replace("AXIS", s.axes[-1])
    if not s.safe and s.draw.random() < 0.3:
        body = body.replace("{conv: 2,", "{conv: {time: 0..1},")
    dilated = "dilation" in body
    s.blocks.append(f"  {name}(x{', dilation=1' if dilated else ''}):\n{body}")
    repeats = ["2", "{dilation: doubling(1..2)}", "{dilation: [2, 1]}"]
    repeat = s.draw.choice(repeats) if dilated else "2"
    stack = f"{{use: {name}, of: {source}, repeat: {repeat}}}"
    if "skip:" in body:
        stack = s.hidden(stack)
        s.line(f"sum({stack}.skip) + {stack}")
    else:
        s.line(stack)


EVERY_BODY = (
    f"    f: [{{norm: layer}}, {{linear: {2 * WIDTH}}}, gelu, {{linear: {WIDTH}}}]\n"
    "    out: x + f\n",
    "    a: {norm: rms}\n    b: {attention: 2}\n    h: x + b\n"
    f"    f: [{{norm: layer}}, {{linear: {WIDTH}}}, silu]\n    out: h + f\n",
    f"    b: {{linear: {WIDTH}, of: x(AXIS - 1)}}\n    out: x + relu(b)\n",
    f"    b: [{{dropout: 0.5}}, {{lstm: {WIDTH}}}]\n    out: x + b\n",
)
SEQUENCE_BODIES = (
    "    f: {conv: 2, dilation: dilation}\n    out: x + tanh(f)\n",
    "    f, g: {conv: 2, dilation: dilation}\n    z: tanh(f) * sigmoid(g)\n"
    f"    dense: {{linear: {WIDTH}}}\n    out: x + dense\n",
    "    f, g: {conv: 2, dilation: dilation}\n    z: tanh(f) * sigmoid(g)\n"
    f"    skip: {{linear: {WIDTH}}}\n    dense: {{linear: {WIDTH}, of: z}}\n    out: x + dense\n",
    "    f: [{norm: rms}, {conv: {time: -1..0}, dilation: dilation}]\n    out: x + f\n",
    "    f: {conv: 2, groups: 2, dilation: dilation}\n    out: x + relu(f)\n",
    "    f: {conv: 1}\n    g: {conv: 2, dilation: dilation, of: x(time - 1)}\n"
    "    out: f + relu(g)\n",
    *EVERY_BODY,
)
IMAGE_BODIES = (
    "    f: {conv: 3, dilation: dilation}\n    out: x + tanh(f)\n",
    "    f: [relu, {conv: {row: 1, col: 3}, dilation: dilation}]\n    out: x + f\n",
    f"    f, g: {{conv: 3, dilation: dilation}}\n    z: tanh(f) * sigmoid(g)\n"
    f"    dense: {{linear: {WIDTH}}}\n    out: x + dense\n",
    f"    f, g: {{conv: 3}}\n    z: tanh(f) * sigmoid(g)\n"
    f"    skip: {{linear: {WIDTH}}}\n    dense: {{linear: {WIDTH}, of: z}}\n    out: x + dense\n",
    *EVERY_BODY,
)
VOLUME_BODIES = (
    "    f: {conv: 3, dilation: dilation}\n    out: x + tanh(f)\n",
    "    f, g: {conv: {row: 3, col: 3}}\n    out: x + tanh(f) * sigmoid(g)\n",
    *EVERY_BODY,
)
BODIES = {1: SEQUENCE_BODIES, 2: IMAGE_BODIES, 3: VOLUME_BODIES}


# --- for every number of axes --------------------------------------------------------------------


def attention(s: Sketch) -> None:
    source = s.node()
    kind = s.draw.choice(
        [
            "attention: 2",
            "attention: 1",
            f"attention: 2, window: {s.draw.randint(1, 4)}",
            "attention: 2, rope: 100",
            "attention: 2, kv_heads: 1, rope: 10",
            "attention: 4, alibi: true",
            "attention: 2, mask: A",
        ]
    )
    s.line(f"{{{kind}, of: {source}}}")


def recurrence(s: Sketch) -> None:
    """States from earlier positions; in two directions, with a shift that undoes the second."""
    source, op = s.node(), s.draw.choice(["lstm", "gru"])
    inner, outer = s.axes[-1], s.axes[0]
    states = ["", f", state: {{{inner}: -2}}"]
    reads = [""]
    if len(s.axes) == 1:
        states += [", state: -2..-1", ", state: [-1, -3]"]
        reads += [", reads: 2", ", reads: {time: -1..0}", ", reads: 2, mask: A"]
    else:
        states += [
            f", state: [{{{outer}: -1}}, {{{inner}: -1}}]",
            f", state: {{{outer}: -1}}",
            *[f", state: {{{outer}: -1, {inner}: -1..1}}"] * 3,
        ]
    if len(s.axes) == 2:
        reads += [", reads: 3", ", reads: {row: 1, col: 3}", ", reads: {row: -1, col: -1..1}"]
    if not s.safe:
        states.append(f", state: {{{inner}: 1}}")
        reads.append(f", reads: {{{inner}: 0..1}}")
    if len(s.axes) > 1 and s.draw.random() < 0.3:
        state = s.draw.choice([f"[{{{outer}: -1}}, {{{inner}: 1}}]", f"{{{inner}: 1}}"])
        n = s.hidden(f"{{{op}: {WIDTH}, state: {state}, of: {source}{s.given()}}}")
        s.line(f"{n}({outer} - 1)")
        return
    settings = s.draw.choice(states) + s.draw.choice(reads)
    s.line(f"{{{op}: {WIDTH}{settings}, of: {source}{s.given()}}}")


def recursion(s: Sketch) -> None:
    """Equations that need their own earlier values."""
    source, first = s.node(), len(s.lines)
    own, other = f"n{first}", f"n{first + 1}"
    late = f"(time - {s.draw.randint(1, 2)})"
    form = s.draw.randrange(4)
    if form == 0:
        s.line(f"tanh({source} + 0.5 * {own}{late})")
    elif form == 1:
        s.line(f"0.4 * ({own}{late} or {s.draw.choice(['0.5', source])}) + tanh({source})")
    elif form == 2:
        s.hidden(f"{{linear: {WIDTH}, of: {other}{late}{s.given()}}}")
        s.line(f"tanh({source} + {own})")
    else:  # the second stands before what it is computed from
        s.hidden(f"tanh({source}) - 0.5 * {other}{late} * {own}(time - 1)")
        s.line(f"sigmoid({own}) * {source}(time - 1)")


def norm(s: Sketch) -> None:
    source = s.node()
    s.line(f"{{norm: {s.draw.choice(['layer', 'rms'])}, of: {source}}}")


def pointwise(s: Sketch) -> None:
    source = s.node()
    form = s.draw.choice(
        [
            f"{{linear: {WIDTH}, of: {source}{s.given()}}}",
            f"[{{linear: {WIDTH}, of: {source}}}, gelu, {{dropout: 0.5}}, {{linear: {WIDTH}}}]",
        ]
    )
    s.line(form)


def equation(s: Sketch) -> None:
    a, b = s.node(), s.node()
    form = s.draw.choice(
        [
            f"tanh({a}) * sigmoid({b}{s.shift()})",
            f"{a} + 2 * {b}{s.shift()}",
            f"silu({a}) * {b}{s.shift()}",
            f"elu({a}) + {b}",
            f"{a}{s.shift(1)} + {b}{s.shift(1)}",
            f"softplus({a} - {b}{s.shift()}{s.shift()})",
        ]
    )
    s.line(form)


def shifted(s: Sketch) -> None:
    """A shift alone, in front of an op, side by side with another, or with a value outside."""
    a, b = s.node(), s.node()
    form = s.draw.choice(
        [
            f"{a}{s.shift(1)}",
            f"{{linear: {WIDTH}, of: {a}{s.shift(1)}{s.given()}}}",
            f"{{linear: {WIDTH}, of: {a}{s.shift(1)} ++ {a}}}",
            f"{a}({s.axis()} - 1) or {b}",
            f"{b} * ({a}({s.axis()} - {s.draw.randint(1, 2)}) or 0.5)",
        ]
    )
    s.line(form)


def apart(s: Sketch) -> None:
    """One op for two names."""
    source = s.node()
    p, q = f"p{len(s.lines)}", f"q{len(s.lines)}"
    s.hidden(f"{{linear: {WIDTH}, of: {source}{s.given()}}}", f"{p}, {q}")
    s.line(f"tanh({p}) * sigmoid({q}{s.shift()})")


def table(s: Sketch) -> None:
    """Positions, or learned numbers, added."""
    source, axis = s.node(), s.axis()
    if s.draw.random() < 0.3:
        s.line(f"{source} + sinusoidal({axis})")
        return
    weight = f"{{weight: {WIDTH}}}"
    n = s.hidden(s.draw.choice([f"{{embed: {WIDTH}, of: {axis}, size: 64}}", weight]))
    s.line(s.draw.choice([f"{source} + {n}", f"{source}({axis} - 1) or {n}"]))


def slower(s: Sketch) -> None:
    """A slower clock of what is drawn, used from where it is complete."""
    source, rate = s.node(), s.draw.randint(2, 3)
    axis = s.axis()
    every = len(s.axes) == 1 or s.draw.random() < 0.4
    rates = str(rate) if every else f"{{{axis}: {rate}}}"
    axis = s.axes[0] if every else axis
    size = s.draw.choice(["1", "3"]) if len(s.axes) > 1 else str(s.draw.randint(1, 4))
    late = f"({axis} - 1)"
    if s.draw.random() < 0.5:
        kind = s.draw.choice(["", ", kind: max"])
        n = s.hidden(f"{{pool: {rates}{kind}, of: {source}}}")
    elif s.draw.random() < 0.3:  # reads ahead, up to the next tick
        n = s.hidden(f"{{conv: {{{axis}: -1..{rate - 1}}}, stride: {rates}, of: {source}}}")
    else:
        n = s.hidden(f"{{conv: {size}, stride: {rates}, of: {source}}}")
        late = ""
    if s.draw.random() < 0.4:
        n = s.hidden(f"{{conv: {size}, of: {n}}}")
    if not s.safe and s.draw.random() < 0.3:
        late = ""
    if s.draw.random() < 0.5:
        s.line(f"{{up: {rates}, of: {n}{late}}}")
    else:
        window = s.draw.choice(["1", "2", "3"])
        s.line(f"{{deconv: {window}, stride: {rates}, of: {n}{late}}}")


def so_far(s: Sketch) -> None:
    """A summary of all positions up to the present."""
    s.line(f"{{pool: prefix{s.draw.choice(['', ', kind: max'])}, of: {s.node()}}}")


ANYWHERE: list[Grow] = [
    slower,
    so_far,
    attention,
    recurrence,
    norm,
    pointwise,
    equation,
    shifted,
    apart,
    table,
]


# --- conditions ----------------------------------------------------------------------------------


def condition(s: Sketch) -> None:
    """A condition on the target's clock or a slower one, or a global one, and how it is read."""
    name = f"c{len(s.conditions)}"
    if s.draw.random() < 0.25:
        s.conditions[name] = s.draw.choice(["{classes: 3}", "{features: 2}"])
        s.known.append(name)
        return
    axes = tuple(axis for axis in s.axes if s.draw.random() < 0.8) or s.axes
    slower = s.draw.choice([1, 1, 2, 3])
    known = s.draw.choice(["all", "present", "past", "+1", "+2"])
    if axes[0] != s.axes[0]:
        known = "all"
    clocks = [axis if slower == 1 else f"{axis} / {slower}" for axis in axes]
    kind = s.draw.choice(["features: 2", "features: 2", "classes: 3"])
    s.conditions[name] = f"{{{kind}, axes: [{', '.join(clocks)}], known: {known}}}"
    plain = f"{{linear: {WIDTH}, of: {name}{shift_of(s, axes)}}}"
    forms = [plain]
    if known == "all" and slower == 1:  # along its last axis, backwards
        forms.append(f"{{gru: {WIDTH}, state: {{{axes[-1]}: 1}}, of: {name}}}")
    if len(s.axes) < 3 and axes == s.axes:
        size = 3 if known == "past" else s.draw.choice([1, 3])
        forms.append(f"{{conv: {size}, to: {WIDTH}, of: {name}}}")
        windows = ["-1..0", "-2..-1"] + ["0..1"] * (known not in ("present", "past") or not s.safe)
        window = s.draw.choice(windows)
        inner = ", col: -1..0" if len(s.axes) == 2 else ""
        forms.append(f"{{conv: {{{axes[0]}: {window}{inner}}}, to: {WIDTH}, of: {name}}}")
        if known not in ("all", "past") and slower == 1:
            ends = {"present": "0", "+1": "1", "+2": "2"}[known]
            forms += [
                f"{{conv: {{{axes[0]}: -2..{ends}{inner}}}, stride: 2, to: {WIDTH}, of: {name}}}"
            ] * 2
    elif known not in ("all", "past") and slower == 1 and axes == s.axes[: len(axes)] != s.axes:
        first = s.draw.choice(["-1..0", "-2..-1", "-2..0"] + ["0..1"] * (known[0] == "+"))
        spans = ", ".join(f"{axis}: {first if axis == axes[0] else '-1..0'}" for axis in axes)
        forms += [f"{{conv: {{{spans}}}, to: {WIDTH}, of: {name}}}"] * 2
        forms.append(f"{{gru: {WIDTH}, state: {{{axes[0]}: -1}}, of: {name}}}")
        forms.append(f"{{conv: {{{spans}}}, stride: {{{axes[0]}: 2}}, to: {WIDTH}, of: {name}}}")
    if known == "all":
        kind = s.draw.choice(["", ", kind: max"])
        forms += [f"[{{linear: {WIDTH}, of: {name}}}, {{pool: all{kind}}}]"]
        rates = ", ".join(f"{axis}: 2" for axis in axes)
        forms += [
            f"[{{linear: {WIDTH}, of: {name}}}, {{pool: 2{kind}}}]",
            f"{{conv: 3, stride: {{{rates}}}, to: {WIDTH}, of: {name}}}",
        ]
    reading = f"{name}_read"
    form = s.draw.choice(forms)
    s.lines.append(f"  {reading}: {form}")
    if "pool: all" in form:
        s.known.append(reading)
        return
    if "stride" in form and f"stride: {{{axes[0]}: 2}}" in form and len(s.axes) > 1:
        s.known.append(reading)  # repeated where it is given
        return
    slower *= 2 if "stride" in form or "pool" in form else 1
    if slower > 1 and s.draw.random() < 0.7:
        rates = ", ".join(f"{axis}: {slower}" for axis in axes)
        op = "up" if known != "all" else s.draw.choice(["up", "deconv", "deconv"])
        rates = f"{{{rates}}}" if op == "up" else f"{s.draw.randint(1, 4)}, stride: {{{rates}}}"
        s.lines.append(f"  {reading}_up: {{{op}: {rates}, of: {reading}}}")
        reading = f"{reading}_up"
    if (slower == 1 or reading.endswith("_up")) and s.draw.random() < 0.3:
        s.lines.append(f"  {reading}_late: tanh({reading}{shift_of(s, axes)})")
        reading = f"{reading}_late"
    s.known.append(reading)


def shift_of(s: Sketch, axes: tuple[str, ...]) -> str:
    """A shift of something with some of the axes only, or none."""
    return s.draw.choice(["", "", f"({s.draw.choice(axes)} - {s.draw.randint(1, 2)})"])


def use_conditions(s: Sketch) -> None:
    """A condition that nobody reads is an error: read each at least once."""
    source = s.node()
    if s.known:
        s.line(f"{{linear: {WIDTH}, of: {source}, given: [{', '.join(s.known)}]}}")


# --- images --------------------------------------------------------------------------------------


def image(draw: random.Random, safe: bool) -> str:
    s = sketch(draw, AXES[2], safe)
    for _ in range(draw.choice([0, 0, 1, 2])):
        condition(s)
    windows = ["3", "{row: 3, col: 3}", "{row: 1, col: 3}", "{row: 0, col: -2..-1}"]
    if not s.safe:
        windows += ["{row: -1..0, col: -1..1}", "{row: 0, col: 0..1}"]
    for _ in range(draw.choice([1, 1, 2])):
        s.line(f"{{conv: {draw.choice(windows)}, to: {WIDTH}, of: y{s.given()}}}")
    if draw.random() < 0.5:
        window = draw.choice(["{row: -1, col: -1..1}", "{row: -2..-1, col: 0..1}"])
        s.above.append(s.line(f"{{conv: {window}, to: {WIDTH}, of: y}}"))
    ops: list[Grow] = [window_of_image, window_of_image, ahead, early, layers, *ANYWHERE]
    for _ in range(draw.randint(1, 5)):
        draw.choice([*ops, rows_above, two_stacks] if s.above else ops)(s)
    use_conditions(s)
    beside(s)
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
        "[{row: -1, col: -1..1}, {col: -1}]",
        "[{row: -2..-1, col: 1}, {row: 0, col: -2..0}]",
        "{row: -1..1, col: -1..1}, mask: B",
    ]
    if not s.safe:
        windows += ["{row: -1..0, col: -1..1}", "{row: 0, col: -1..1}"]
    dilation = s.draw.choice(["", "", ", dilation: 2", ", dilation: {row: 1, col: 2}"])
    more = s.draw.choice(["", "", "", ", groups: 2"])
    s.line(f"{{conv: {s.draw.choice(windows)}{dilation}{more}, of: {source}{s.given()}}}")


def rows_above(s: Sketch) -> None:
    """One more layer of a stack that sees whole rows, but none of its own."""
    source = s.draw.choice(s.above)
    form = s.draw.choice(
        [
            f"{{conv: {{row: -1..0, col: -1..1}}, of: {source}{s.given()}}}",
            f"{{conv: {{row: 0, col: -1..1}}, of: {source}}}",
            f"{{linear: {WIDTH}, of: {source}}}",
            f"{{norm: layer, of: {source}}}",
            f"{{attention: 2, of: {source}}}",
            f"{{lstm: {WIDTH}, reads: {{row: -1..0, col: 0..1}}, of: {source}}}",
            f"{{gru: {WIDTH}, state: {{row: -1, col: -1..1}}, of: {source}}}",
            f"{{gru: {WIDTH}, state: [{{row: -1}}, {{col: 1}}], of: {source}}}",
            f"tanh({source}) + {s.draw.choice(s.above)}(row - 1)",
        ]
    )
    s.above.append(s.line(form))


def two_stacks(s: Sketch) -> None:
    """Gated PixelCNN's pair of stacks."""
    rows, here, name = s.draw.choice(s.above), s.node(), f"block{len(s.blocks)}"
    s.blocks.append(
        f"  {name}(v, h):\n    a, b: {{conv: {{row: -1..0, col: -1..1}}, of: v}}\n"
        "    v_out: tanh(a) * sigmoid(b)\n"
        "    p, q: {conv: {row: 1, col: 3}, of: h, given: [a, b]}\n"
        "    h_out: h + tanh(p) * sigmoid(q)\n    out: v_out, h_out\n"
    )
    pair = s.hidden(f"{{use: {name}, of: [{rows}, {here}], repeat: {s.draw.randint(1, 2)}}}")
    v, h = f"v{len(s.lines)}", f"h{len(s.lines)}"
    s.hidden(pair, f"{v}, {h}")
    s.line(f"relu({v}) + {h}")


def volume(draw: random.Random, safe: bool) -> str:
    """Three axes."""
    s = sketch(draw, AXES[3], safe)
    for _ in range(draw.choice([0, 0, 1])):
        condition(s)
    for _ in range(draw.choice([1, 2, 2])):
        forms = [f"{{linear: {WIDTH}, of: y{s.shift(1)}{s.given()}}}"]
        window = s.draw.choice(["3", "{row: 3, col: 3}", "{frame: 3, col: 1}", "{col: 3}"])
        forms += [f"{{conv: {window}, to: {WIDTH}, of: y{s.given()}}}"] * 2
        if "classes" in s.kind:
            forms.append(f"{{embed: {WIDTH}, of: y{s.shift(1)}}}")
        if not s.safe:
            forms += [
                f"{{linear: {WIDTH}, of: y}}",
                f"{{linear: {WIDTH}, of: y(row - 1)(col + 1)}}",
            ]
        s.line(draw.choice(forms))
    if draw.random() < 0.5:  # the frame before, whole
        ahead_too = draw.choice(["", "(row + 1)", "(col + 1)", "(row + 1)(col - 1)"])
        form = f"{{linear: {WIDTH}, of: y(frame - 1){ahead_too}}}"
        window = f"{{frame: {draw.choice(['-1', '-2..-1'])}, row: -1..1, col: 0..1}}"
        form = draw.choice([form, f"{{conv: {window}, to: {WIDTH}, of: y}}"])
        s.above.append(s.line(form))
    ops: list[Grow] = [attention, layers, window_of_volume, window_of_volume, *ANYWHERE]
    for _ in range(draw.randint(1, 4)):
        draw.choice([*ops, frames_before] if s.above else ops)(s)
    use_conditions(s)
    beside(s)
    return s.text()


def window_of_volume(s: Sketch) -> None:
    source = s.node()
    windows = [
        "3",
        "{row: 3, col: 3}",
        "{frame: 3, col: 3}",
        "{frame: -1, row: -1..1, col: -1..1}",
        "{frame: -1..0, row: -1..0, col: -1..0}",
        "[{frame: -1, row: -1..1}, {row: -1, col: 0..1}, {col: -1..0}]",
    ]
    if not s.safe:
        windows += ["{frame: -1..0, row: -1..1, col: 0}", "{frame: 0, row: 0, col: 0..1}"]
    dilation = s.draw.choice(["", "", ", dilation: 2", ", dilation: {row: 2}"])
    more = s.draw.choice(["", "", "", ", groups: 2"])
    s.line(f"{{conv: {s.draw.choice(windows)}{dilation}{more}, of: {source}{s.given()}}}")


def frames_before(s: Sketch) -> None:
    """One more layer on whole frames before."""
    source = s.draw.choice(s.above)
    form = s.draw.choice(
        [
            f"{{linear: {WIDTH}, of: {source}(row + 1)}}",
            f"{{conv: {{frame: -1..0, row: -1..1, col: 0..1}}, of: {source}}}",
            f"relu({source}) + {source}(col + 1)",
            f"{{attention: 2, of: {source}}}",
            f"{{norm: rms, of: {source}}}",
        ]
    )
    s.above.append(s.line(form))


# --- ordered channels ----------------------------------------------------------------------------


def colours(draw: random.Random, safe: bool) -> str:
    """Channels drawn one after another."""
    axes = AXES[draw.choice([1, 2, 2, 3])]
    kind = draw.choice(["levels: 3", "classes: 3"])
    kind = f"{kind}, axes: [{', '.join(axes)}], channels: {draw.choice([2, 3])}"
    s = Sketch(draw, axes, "y", kind, ordered=True, safe=safe)
    for _ in range(draw.choice([0, 0, 1])):
        condition(s)
    wide = f"{{linear: {WIDTH}}}"
    if len(axes) == 3 and draw.random() < 0.4:
        s.line(f"{{linear: {WIDTH}, of: y{s.shift()}{s.given()}}}")
    else:
        s.line(f"{{conv: 3, to: {WIDTH}, of: y{s.given()}}}")
    if draw.random() < 0.3:
        s.line(f"{{conv: {draw.choice([1, 3])}, mask: A, to: {WIDTH}, of: y}}")
    if draw.random() < 0.4 and len(axes) == 2:
        s.above.append(s.hidden(f"{{conv: {{row: -1, col: -1..1}}, to: {WIDTH}, of: y}}"))
        s.known.append(s.above[0])
    for _ in range(draw.randint(1, 4)):
        source = s.node()
        conv = "conv: 3" if len(axes) < 3 else draw.choice(["linear: 4", "conv: 3"])
        forms = [
            f"{{{conv}, of: {source}{s.given()}}}",
            f"{{{conv}, mask: A, of: {source}}}",
            f"{{linear: {WIDTH}, of: {source}{s.given()}}}",
            f"relu({source})",
            f"{source} * sigmoid({s.node()})",
            f"[relu, {wide}, {{{conv}}}]" if s.lines[-1].startswith(f"  {source}:") else source,
            f"{source}{s.shift(1)}",
            f"{{linear: {WIDTH}, of: {source}{s.shift(1)}{s.given()}}}",
        ]
        if not s.safe:
            forms += [f"{{norm: layer, of: {source}}}", f"{{{conv}, mask: none, of: {source}}}"]
        if draw.random() < 0.3:
            recurrence(s)
        elif draw.random() < 0.2:  # the features of a channel in several runs
            wide_one = s.hidden(f"concat_elu({source})")
            s.line(f"{{linear: {WIDTH}, of: {wide_one}{s.shift(1)}{s.given()}}}")
        else:
            s.line(draw.choice(forms))
    use_conditions(s)
    beside(s)
    return s.text()
