"""OpenVINO without its model-conversion tools.

``import openvino`` also imports, if it can, the tools that convert other frameworks' models, and with them a telemetry
client: 6 MB and 30 ms for tools that are not used here. It ignores a failure of that import, so we block it.
"""

import sys

_TOOLS = "openvino.tools.ovc"

if _TOOLS in sys.modules:
    import openvino as ov
else:
    sys.modules[_TOOLS] = None  # type: ignore[assignment]  # the import system's way to say "not there"
    try:
        import openvino as ov
    finally:
        del sys.modules[_TOOLS]

from openvino import opset13 as ops

__all__ = ["ops", "ov"]
