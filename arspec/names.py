"""Names that a spec may not use, and how its names become Python names."""

from __future__ import annotations

import builtins

METHODS = frozenset(
    [
        "start",
        "step",
        "sample",
        "log_prob",
        "head",
        "head_bias",
        "distribution",
        "encode",
        "decode",
    ]
)

_CALL_PARAMETERS = """
    batch shape prompt observed temperature top_k top_p generator lengths reduce compile
    min_length max_length x x_prev state self
    at channel device drawn every full given inside kept key module modes place places training
    known last like number partly progress unknown wanted
"""
CALL_PARAMETERS = frozenset(_CALL_PARAMETERS.split())

_MODULE_ATTRIBUTES = """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda
    double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
    get_submodule half ipu load_state_dict modules mtia named_buffers named_children
    named_modules named_parameters parameters register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
    set_submodule share_memory state_dict to to_empty train training type xpu zero_grad
"""
MODULE_ATTRIBUTES = frozenset(_MODULE_ATTRIBUTES.split())
"""The public attributes of an `nn.Module`; a test compares them with torch's own."""

_CODE = "F nn torch math Tensor dtype params repeat shift shift_or concat_elu scale_levels"
_POOLS = "mean_pool max_pool mean_so_far max_so_far"
_KEPT = """
    past first here settled settled_at keep slab extent summed sum_of product newest held drawn
    slower along seen sinusoidal
"""
TAKEN = {
    *dir(builtins),
    *_CODE.split(),
    *_POOLS.split(),
    *_KEPT.split(),
    "concatenate",
    "gaussian_parameters",
    "student_t_parameters",
    "channel_groups",
}


def local(name: str) -> str:
    """The Python variable of a line: its own name, with `_` where that would shadow something."""
    return f"{name}_" if name in TAKEN else name


def constant(name: str) -> str:
    """The module constant of a param: ``skip_width`` -> ``SKIP_WIDTH``."""
    return name.upper() if name.upper() != "F" else "F_"


def class_name(name: str) -> str:
    """The class of a block: ``gated_resnet`` -> ``GatedResnet``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))
