"""What importing us does, with LlamaIndex and without."""

import subprocess
import sys


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_hybridqa_alone_imports_no_llamaindex() -> None:
    assert python("import hybridqa, sys; print('llama_index' in sys.modules)") == "False\n"


def test_our_seams_alone_load_no_torch() -> None:
    code = "import hybridqa.llamaindex, sys; print('torch' in sys.modules)"
    assert python(code) == "False\n"


def test_without_llamaindex_the_remedy_is_told() -> None:
    code = """
import sys
sys.modules["llama_index"] = None
from hybridqa.errors import InputError
try:
    import hybridqa.llamaindex
except InputError as exc:
    print(exc)
"""
    assert "pip install 'hybridqa[llamaindex]'" in python(code)
