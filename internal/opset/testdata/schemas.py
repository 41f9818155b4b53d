"""Writes schemas.tsv: what ONNX and ONNX Runtime say of each operator's form.

    pip install onnx==1.22.0 onnxruntime==1.30.0
    python schemas.py > schemas.tsv

One line per operator and version: domain, name, version, inputs, outputs,
attributes. Slots and attributes are in the notation of the table's rows; an
attribute that the older form of a schema calls "consumed_inputs" is included.
"""

import onnx
import onnx.defs

OPTION = {0: "", 1: "?", 2: "*"}
KINDS = {v: k.lower() for k, v in onnx.AttributeProto.AttributeType.items()}


def slot(p):
    mark = OPTION[int(p.option.value) if hasattr(p.option, "value") else int(p.option)]
    return p.name + ("+" if mark == "*" and getattr(p, "min_arity", 0) > 0 else mark)


def text(kind, value):
    if kind == "float":
        return repr(float("%.7g" % value)).removesuffix(".0")
    if kind == "string":
        return value.decode()
    if kind == "ints":
        return ",".join(map(str, value))
    if kind == "strings":
        return ",".join(v.decode() for v in value)
    return str(value) if kind == "int" else None


def attribute(name, kind, required, default):
    out = name + ":" + kind
    if required:
        return out + "!"
    if default is not None and default.type != 0:
        shown = text(kind, onnx.helper.get_attribute_value(default))
        if shown is not None:
            out += "=" + shown
    return out


def line(s, attrs):
    print(s.domain, s.name, s.since_version, " ".join(map(slot, s.inputs)),
          " ".join(map(slot, s.outputs)), " ".join(sorted(attrs)), sep="\t")


def standard():
    for s in sorted(onnx.defs.get_all_schemas_with_history(), key=lambda s: (s.domain, s.name, s.since_version)):
        line(s, [attribute(n, KINDS[int(getattr(a.type, "value", a.type))], a.required, a.default_value)
                 for n, a in s.attributes.items()])


def contrib():
    from onnxruntime.capi import onnxruntime_pybind11_state as state
    for s in sorted(state.get_all_operator_schema(), key=lambda s: s.name):
        if s.domain != "com.microsoft":
            continue
        attrs = []
        for n, a in s.attributes.items():
            default = onnx.AttributeProto.FromString(a._default_value) if a._default_value else None
            attrs.append(attribute(n, str(a.type).split(".")[-1].lower(), a.required, default))
        line(s, attrs)


standard()
contrib()
